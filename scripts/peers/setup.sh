#!/bin/sh
# Sets up a Python environment with the programs that ours is compared with: llama.cpp (built here, for this machine's
# processor) and ONNX Runtime. A development tool: nothing of the product needs it.
#
#     scripts/peers/setup.sh FOLDER        needs python3 with venv, a C++ compiler, ten minutes or more of two cores
#
# Then run benches/peers/*.py with FOLDER/bin/python.
set -eu
folder=${1:?usage: setup.sh FOLDER}
python3 -m venv "$folder"
"$folder/bin/pip" install --upgrade pip
"$folder/bin/pip" install cmake==4.4.4 ninja==1.13.2 numpy safetensors==0.8.0 tokenizers onnx==1.23.2 onnxruntime==1.32.0
# The wheels of the index are built for the least common processor; -march=native is what a user who cares gets.
CMAKE_ARGS="-DGGML_NATIVE=ON" nice -n 19 "$folder/bin/pip" install --no-binary llama-cpp-python llama-cpp-python==0.3.36
