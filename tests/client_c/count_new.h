// Counts what a thread takes from operator new, which a program that links count_new.cc replaces;
// the shared libraries that it loads use it too.
#ifndef ENGRAM_TESTS_CLIENT_C_COUNT_NEW_H_
#define ENGRAM_TESTS_CLIENT_C_COUNT_NEW_H_

#include <cstddef>

namespace engram {

size_t AllocationsOfThisThread();

}  // namespace engram

#endif  // ENGRAM_TESTS_CLIENT_C_COUNT_NEW_H_
