#!/bin/sh
# Install Twinscope from the wheels in this folder, without a network: sh install.sh [FOLDER [PYTHON]]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-twinscope-venv}
python=${2:-python3}
"$python" -m venv "$target"
"$target/bin/python" -m pip install --no-index --find-links "$here" "twinscope[@EXTRAS@]"
"$target/bin/twinscope" doctor
echo "Installed. Run: $target/bin/twinscope --help"
