"""Settings: one table from which the file, the variables, `--set`, the documents and every check derive.

Read once by whoever starts the program (`load_settings`), then handed down as frozen values: `settings.jobs.lease_s`.
Nobody below reads the environment or a file again.
"""

from safelight.settings.faults import InvalidSettings, Origin, SettingFault
from safelight.settings.fields import Setting
from safelight.settings.load import load_settings, settings_of
from safelight.settings.table import (
    DeviceSettings,
    JobSettings,
    LogSettings,
    ModelSettings,
    PerformanceSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    setting_table,
)

__all__ = [
    "DeviceSettings",
    "InvalidSettings",
    "JobSettings",
    "LogSettings",
    "ModelSettings",
    "Origin",
    "PerformanceSettings",
    "ServerSettings",
    "Setting",
    "SettingFault",
    "Settings",
    "StorageSettings",
    "load_settings",
    "setting_table",
    "settings_of",
]
