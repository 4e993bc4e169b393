// Debian's libnghttp2.a is compiled for executables: a debugging function of it, which nobody
// calls, addresses `stderr` as only an executable can. Linked with --wrap=stderr it addresses this
// instead, which lies in the library.
#include <cstdio>

extern "C" {
extern FILE* __real_stderr;  // NOLINT: the linker's names
__attribute__((visibility("hidden"))) extern FILE* __wrap_stderr;
FILE* __wrap_stderr = __real_stderr;
}
