# Rules that every target of ours follows: include paths from the repository's root, strict
# warnings on our code alone, sanitizers by preset.

add_library(engram_build_options INTERFACE)
target_include_directories(engram_build_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(engram_build_options INTERFACE -Wall -Wextra -Wconversion)
if(ENGRAM_WERROR)
  target_compile_options(engram_build_options INTERFACE -Werror)
endif()
if(ENGRAM_SANITIZE)
  target_compile_options(engram_build_options INTERFACE
    -fsanitize=${ENGRAM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(engram_build_options INTERFACE -fsanitize=${ENGRAM_SANITIZE})
endif()

# engram_library(NAME SOURCES file... [DEPS target...])
function(engram_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE engram_build_options)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# engram_binary(NAME SOURCES file... [DEPS target...])
function(engram_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} engram_build_options)
endfunction()

# engram_test(NAME SOURCES file... [DEPS target...]): a GoogleTest binary, each test known to ctest.
function(engram_test name)
  engram_binary(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 120
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
endfunction()
