"""The configuration: its types, how it is composed from ``conf/``, which values can work, and plug-ins."""
