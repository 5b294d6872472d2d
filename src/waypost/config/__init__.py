"""Configuration: one TOML file -> frozen, typed settings; each error names file, line, key and a correct form.

`load.load` reads the file and returns `settings.Settings`.
"""
