"""Configuration: one TOML file -> frozen, typed settings; each error names file, line, key and what would be right.

`load.load` reads it, `settings.Settings` is what comes out.
"""
