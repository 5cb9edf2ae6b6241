"""Real servers that tests talk to, a module for each. One is started when it is first asked for, in each process that
runs tests, and ends with it."""
