#ifndef ENGRAM_TESTS_SUPPORT_TEMP_PATH_H_
#define ENGRAM_TESTS_SUPPORT_TEMP_PATH_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

namespace engram {

// A place for a file of this process alone: tests run side by side.
inline std::string TempPath(const std::string& name) {
  return testing::TempDir() + "/engram-" + std::to_string(getpid()) + "-" + name;
}

}  // namespace engram

#endif  // ENGRAM_TESTS_SUPPORT_TEMP_PATH_H_
