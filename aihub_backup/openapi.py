"""The document that describes the API: its title, where it is read, and the names in it."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, Any] = {
    "TITLE": "AI Hub Backup",
    "DESCRIPTION": "Backup, recovery and disaster recovery for an AI platform.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {  # names of enumerations never depend on which other ones there are
        "BackupType": "backups.models.BackupType",
        "BackupStatus": "backups.models.BackupState",
        "PartStatus": "backups.models.PartState",
        "PartMode": "backups.models.Mode",
        "RequestTrigger": "backups.models.Trigger",
        "VerificationStatus": "backups.models.VerificationState",
        "MisfireRule": "backups.models.Misfire",
        "SlotStatus": "backups.models.SlotState",
        "RepositoryStatus": "backups.models.RepositoryState",
        "RepositoryCodec": "backups.models.repository.Codec",
        "RecoveryType": "recovery.models.RecoveryType",
        "RecoveryStatus": "recovery.models.RecoveryState",
        "RecoveryPurpose": "recovery.models.Purpose",
        "RequestedPurpose": "recovery.api.bodies.PURPOSES",
        "TargetKind": "recovery.models.TargetKind",
        "ConflictRule": "recovery.api.bodies.CONFLICTS",
        "RunStatus": "backups.api.shapes.RUNS",
        "StorageKind": "backups.api.shapes.STORAGE_KINDS",
        "SourceKind": "backups.api.shapes.SOURCE_KINDS",
        "EntryKind": "backups.api.shapes.ENTRY_KINDS",
        "CheckedState": "backups.api.shapes.CHECKED",
        "RepairDeed": "backups.api.repairs.WORDS",
        "Severity": "backups.api.shapes.SEVERITIES",
    },
    "PREPROCESSING_HOOKS": ["aihub_backup.core.api.routes.without_slashes"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "aihub_backup.core.api.schema.close_bodies",
    ],
}
