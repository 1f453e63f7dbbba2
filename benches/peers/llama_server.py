"""llama.cpp's Python server, to try remote models against: the arguments are those of `python -m llama_cpp.server`.

    pip install "llama-cpp-python[server]"
    python benches/peers/llama_server.py --model FILE.gguf --port 8000 --logits_all True --embedding True

Runs without llama.cpp's AMX buffers, in which it ends with a fault on virtual machines that show AMX but do not run it; and a text has one vector, the
mean of its tokens', where the server would give one a token.
"""

import functools

import llama_cpp
import llama_cpp.server.__main__ as server

defaults = llama_cpp.llama_cpp.llama_model_default_params


def without_extra_buffers():
    parameters = defaults()
    parameters.use_extra_bufts = False
    return parameters


llama_cpp.llama_cpp.llama_model_default_params = without_extra_buffers
llama_cpp.Llama.__init__ = functools.partialmethod(llama_cpp.Llama.__init__, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN)
server.main()
