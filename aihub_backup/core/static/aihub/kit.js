// The kit is shown once: print it from here, and be asked before a link leads away from it.
(() => {
  const kit = document.querySelector("[data-kit]");
  if (!kit) return;
  kit.querySelector("[data-print]").addEventListener("click", () => window.print());
  const question = kit.dataset.question;
  if (!question) return;
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    if (link && !link.target && !window.confirm(question)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }, true);
})();
