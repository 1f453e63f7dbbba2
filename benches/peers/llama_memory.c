// How much memory does llama.cpp need at most, as a program of its own? Computes a prompt, decodes, and prints the process's peak.
//
//   L=$(python -c "import llama_cpp, os; print(os.path.dirname(llama_cpp.__file__))")/lib
//   cc -O1 benches/peers/llama_memory.c -o llama_memory -L$L -lllama -Wl,-rpath,$L -Wl,--allow-shlib-undefined
//   ./llama_memory model.gguf 8192 512 64     # context, prompt, tokens to decode
//
// The packages of llama-cpp-python have no headers, so the two structures of parameters are declared by their size and the offsets of what is
// set, those of 0.3.36 (`ctypes.sizeof(llama_cpp.llama_model_params)` and the like).

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int64_t words[80 / 8]; } model_params;
typedef struct { int64_t words[160 / 8]; } context_params;
typedef struct { int64_t words[56 / 8]; } batch;

enum { USE_EXTRA_BUFFERS = 74, N_CTX = 0, N_BATCH = 4, N_UBATCH = 8, N_SEQ_MAX = 12, N_THREADS = 28, N_THREADS_BATCH = 32 };

model_params llama_model_default_params(void);
context_params llama_context_default_params(void);
void *llama_model_load_from_file(const char *, model_params);
void *llama_init_from_model(void *, context_params);
batch llama_batch_get_one(int32_t *, int32_t);
int32_t llama_decode(void *, batch);
float *llama_get_logits_ith(void *, int32_t);
const void *llama_model_get_vocab(const void *);
int32_t llama_vocab_n_tokens(const void *);
void llama_backend_init(void);
void llama_log_set(void (*)(int, const char *, void *), void *);

static void quiet(int level, const char *text, void *data) { (void)level, (void)text, (void)data; }

static void set(context_params *params, int offset, int32_t value) { memcpy((char *)params + offset, &value, 4); }

int main(int count, char **arguments) {
    if (count != 5) return fprintf(stderr, "usage: llama_memory MODEL CONTEXT PROMPT DECODE\n"), 2;
    int32_t context_size = atoi(arguments[2]), prompt = atoi(arguments[3]), decode = atoi(arguments[4]);
    if (prompt < 1) return fprintf(stderr, "a prompt has at least one token\n"), 2;
    llama_log_set(quiet, NULL);
    llama_backend_init();
    model_params model_options = llama_model_default_params();
    ((char *)&model_options)[USE_EXTRA_BUFFERS] = 0; // AMX, which fails on some virtual machines
    void *model = llama_model_load_from_file(arguments[1], model_options);
    if (!model) return fprintf(stderr, "cannot load %s\n", arguments[1]), 1;
    context_params options = llama_context_default_params();
    set(&options, N_CTX, context_size);
    set(&options, N_BATCH, 512);
    set(&options, N_UBATCH, 512);
    set(&options, N_SEQ_MAX, 1);
    set(&options, N_THREADS, 2);
    set(&options, N_THREADS_BATCH, 2);
    void *context = llama_init_from_model(model, options);
    if (!context) return fprintf(stderr, "no context\n"), 1;
    int32_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    int32_t *tokens = malloc(sizeof(int32_t) * prompt);
    for (int32_t i = 0; i < prompt; i++) tokens[i] = (int32_t)((100 + (int64_t)i * 7919) % vocabulary);
    if (llama_decode(context, llama_batch_get_one(tokens, prompt))) return fprintf(stderr, "prompt failed\n"), 1;
    for (int32_t i = 0; i < decode; i++) {
        float *logits = llama_get_logits_ith(context, -1);
        int32_t best = 0;
        for (int32_t id = 1; id < vocabulary; id++) if (logits[id] > logits[best]) best = id;
        if (llama_decode(context, llama_batch_get_one(&best, 1))) return fprintf(stderr, "decoding failed\n"), 1;
    }
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, "VmHWM:", 6)) printf("peak_rss_mib %.1f\n", atof(line + 6) / 1024);
    return 0;
}
