/* A stand-in for NVIDIA's driver library: one "GPU" whose memory is the host's and whose stream runs at once.

   It has the functions of cuda.h that the runtime and cuda-python's calls need, so that their arguments, their order and
   the recording of graphs are tested where there is no GPU. Each function that frees or releases is counted. */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500 };
enum { DEVICE_MEMORY = 0x10000000 };

typedef void (*host_function)(void *);
typedef struct { void *to; const void *from; size_t size; host_function call; void *data; } node;
typedef struct { node nodes[64]; int count; } graph;

static int contexts, retained, allocated, capturing, context_object, stream_object, integrated = -1;
static graph recording;

static int is_integrated(void) {
  if (integrated < 0) integrated = getenv("STANDIN_INTEGRATED") != NULL;
  return integrated;
}

static int put(node work) {
  if (!contexts) return INVALID_CONTEXT;
  if (capturing) {
    recording.nodes[recording.count++] = work;
  } else if (work.call) {
    work.call(work.data);
  } else {
    memcpy(work.to, work.from, work.size);
  }
  return SUCCESS;
}

API int cuInit(unsigned flags) { return getenv("STANDIN_NO_DEVICE") ? 100 : flags ? INVALID_VALUE : SUCCESS; }
API int cuGetErrorName(int status, const char **name) {
  *name = status == 100 ? "CUDA_ERROR_NO_DEVICE" : status == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : NULL;
  return *name ? SUCCESS : INVALID_VALUE;
}
API int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
API int cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
API int cuDeviceGet(int *device, int ordinal) { return *device = 40 + ordinal, ordinal ? INVALID_VALUE : SUCCESS; }
API int cuDeviceGetName(char *name, int size, int device) {
  if (device != 40 || size < 16) return INVALID_VALUE;
  return strcpy(name, "Stand-in GPU"), SUCCESS;
}
API int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 16 ? 8 : attribute == 18 ? is_integrated() : attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
  return device == 40 && *value >= 0 ? SUCCESS : INVALID_VALUE;
}

API int cuDevicePrimaryCtxRetain(void **context, int device) {
  return *context = &context_object, retained += device == 40, device == 40 ? SUCCESS : INVALID_VALUE;
}
API int cuDevicePrimaryCtxRelease_v2(int device) { return retained -= 1, device == 40 ? SUCCESS : INVALID_VALUE; }
API int cuCtxPushCurrent_v2(void *context) {
  return contexts += 1, context == &context_object ? SUCCESS : INVALID_CONTEXT;
}
API int cuCtxPopCurrent_v2(void **context) {
  return *context = &context_object, contexts -= 1, contexts < 0 ? INVALID_CONTEXT : SUCCESS;
}

API int cuStreamCreate(void **stream, unsigned flags) {
  return *stream = &stream_object, contexts && flags == 1 ? SUCCESS : INVALID_CONTEXT;
}
API int cuStreamDestroy_v2(void *stream) { return stream == &stream_object ? SUCCESS : INVALID_VALUE; }
API int cuStreamSynchronize(void *stream) { return stream == &stream_object && !capturing ? SUCCESS : INVALID_VALUE; }

API int cuMemHostAlloc(void **memory, size_t size, unsigned flags) {
  if (!contexts || flags != (is_integrated() ? 2u : 0u)) return INVALID_VALUE;
  return allocated += 1, (*memory = malloc(size)) ? SUCCESS : OUT_OF_MEMORY;
}
API int cuMemFreeHost(void *memory) { return free(memory), allocated -= 1, contexts ? SUCCESS : INVALID_CONTEXT; }
API int cuMemHostGetDevicePointer_v2(uint64_t *address, void *memory, unsigned flags) {
  return *address = (uint64_t)(uintptr_t)memory, flags ? INVALID_VALUE : SUCCESS;
}
API int cuMemAlloc_v2(uint64_t *address, size_t size) {
  if (!contexts) return INVALID_CONTEXT;
  if (size > DEVICE_MEMORY) return OUT_OF_MEMORY;
  return allocated += 1, *address = (uint64_t)(uintptr_t)malloc(size), SUCCESS;
}
API int cuMemFree_v2(uint64_t address) {
  return free((void *)(uintptr_t)address), allocated -= 1, contexts ? SUCCESS : INVALID_CONTEXT;
}
API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
  return stream == &stream_object ? put((node){(void *)(uintptr_t)to, from, size, NULL, NULL}) : INVALID_VALUE;
}
API int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
  return stream == &stream_object ? put((node){to, (void *)(uintptr_t)from, size, NULL, NULL}) : INVALID_VALUE;
}
API int cuLaunchHostFunc(void *stream, host_function call, void *data) {
  return stream == &stream_object ? put((node){NULL, NULL, 0, call, data}) : INVALID_VALUE;
}

API int cuStreamBeginCapture_v2(void *stream, int mode) {
  if (stream != &stream_object || mode != 1 || capturing) return INVALID_VALUE;
  return recording.count = 0, capturing = 1, SUCCESS;
}
API int cuStreamIsCapturing(void *stream, int *status) {
  return *status = capturing, stream == &stream_object ? SUCCESS : INVALID_VALUE;
}
API int cuStreamEndCapture(void *stream, void **recorded) {
  if (stream != &stream_object || !capturing) return INVALID_VALUE;
  capturing = 0;
  *recorded = memcpy(malloc(sizeof(graph)), &recording, sizeof(graph));
  return allocated += 1, SUCCESS;
}
API int cuGraphInstantiateWithFlags(void **executable, void *recorded, unsigned long long flags) {
  *executable = memcpy(malloc(sizeof(graph)), recorded, sizeof(graph));
  return allocated += 1, flags ? INVALID_VALUE : SUCCESS;
}
API int cuGraphDestroy(void *recorded) { return free(recorded), allocated -= 1, SUCCESS; }
API int cuGraphExecDestroy(void *executable) { return free(executable), allocated -= 1, SUCCESS; }
API int cuGraphLaunch(void *executable, void *stream) {
  graph *work = executable;
  for (int i = 0; i < work->count; i++) put(work->nodes[i]);
  return stream == &stream_object ? SUCCESS : INVALID_VALUE;
}

/* cuda-python asks for functions by the names of cuda.h, which stand for their newest versions. */
API int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
  char newest[80];
  void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  snprintf(newest, sizeof(newest), "%s_v2", name);
  *function = dlsym(library, newest);
  if (!*function) *function = dlsym(library, name);
  if (status) *status = *function ? 0 : 1;
  return *function && version >= 0 && flags + 1 ? SUCCESS : NOT_FOUND;
}

/* For tests: what was not given back. */
API int standin_left(void) { return allocated + retained + contexts; }
