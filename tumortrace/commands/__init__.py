"""One module for each command of `tumortrace`; `tumortrace.cli` loads a module when its command is used."""
