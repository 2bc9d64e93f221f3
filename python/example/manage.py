#!/usr/bin/env python3
"""Django's command line for the example project."""

import os
import sys
from pathlib import Path

# Finds the package beside this project if it is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
