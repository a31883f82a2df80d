"""Print what pyproject.toml requires, so that an image can install it before the code is there.

python requirements.py build      the build backend
python requirements.py service    faultcube[service], without faultcube
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())
requirements = {"build": project["build-system"]["requires"]}
for extra, own in project["project"]["optional-dependencies"].items():
    requirements[extra] = project["project"]["dependencies"] + own
sys.stdout.write("\n".join(requirements[sys.argv[1]]) + "\n")
