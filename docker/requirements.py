"""Print what pyproject.toml requires, so that an image can install it before the code is there.

python requirements.py build               the build backend
python requirements.py service postgres    faultcube[service,postgres], without faultcube
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())
requirements = {"build": project["build-system"]["requires"]}
for extra, own in project["project"]["optional-dependencies"].items():
    requirements[extra] = project["project"]["dependencies"] + own
asked = [line for name in sys.argv[1:] for line in requirements[name]]
sys.stdout.write("\n".join(dict.fromkeys(asked)) + "\n")
