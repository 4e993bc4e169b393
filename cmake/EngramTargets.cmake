# Rules that every target of ours follows: include paths from the repository's root, strict
# warnings on our code alone, sanitizers by preset.

add_library(engram_warnings INTERFACE)
target_include_directories(engram_warnings INTERFACE ${CMAKE_SOURCE_DIR})
# GCC 12 takes the value inside an absl::StatusOr for uninitialized where it cannot follow the check,
# and std::string concatenation for overlapping copies (its bug 105651). Clang counts changes of sign
# among conversions, GCC does not.
target_compile_options(engram_warnings INTERFACE
  -Wall -Wextra -Wconversion $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-restrict>
  $<$<CXX_COMPILER_ID:Clang>:-Wno-sign-conversion -Werror=thread-safety>)
if(ENGRAM_WERROR)
  target_compile_options(engram_warnings INTERFACE -Werror)
endif()

# Tests are compiled without UndefinedBehaviorSanitizer, a third of the time that they take, and without
# the fuzzers' counters: both look at what they call.
add_library(engram_build_options INTERFACE)
add_library(engram_test_options INTERFACE)
foreach(options IN ITEMS engram_build_options engram_test_options)
  target_link_libraries(${options} INTERFACE engram_warnings)
  if(ENGRAM_SANITIZE)
    set(sanitize ${ENGRAM_SANITIZE})
    if(options STREQUAL engram_test_options)
      string(REGEX REPLACE ",(undefined|fuzzer-no-link)" "" sanitize ${sanitize})
    endif()
    target_compile_options(${options} INTERFACE
      -fsanitize=${sanitize} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${options} INTERFACE -fsanitize=${ENGRAM_SANITIZE})
    if(ENGRAM_SANITIZE MATCHES address AND CMAKE_CXX_COMPILER_ID STREQUAL Clang)
      target_compile_definitions(${options} INTERFACE __SANITIZE_ADDRESS__)  # as GCC says it
    endif()
  endif()
endforeach()
# Tests spend their time in what they test; theirs goes to the compiler.
set(test_level -O1)
if(ENGRAM_SANITIZE)
  set(test_level -O0)
endif()
target_compile_options(engram_test_options INTERFACE $<$<CONFIG:RelWithDebInfo>:${test_level}>)

# The files of a target are compiled several at a time: their headers are read, and their templates
# instantiated, once. A third of the time that a build takes otherwise. Names in unnamed namespaces
# must then differ among the files of a target.
function(engram_unity name)
  if(ENGRAM_UNITY)
    set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 10)
  endif()
endfunction()

# engram_library(NAME SOURCES file... [DEPS target...])
function(engram_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE engram_build_options)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  engram_unity(${name})
endfunction()

# engram_binary(NAME SOURCES file... [DEPS target...] [OPTIONS target])
function(engram_binary name)
  cmake_parse_arguments(ARG "" "OPTIONS" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_OPTIONS)
    set(ARG_OPTIONS engram_build_options)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} ${ARG_OPTIONS})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  engram_unity(${name})
endfunction()

# engram_test(NAME [SEQUENTIAL] SOURCES file... [DEPS target...] [LABEL label]): a GoogleTest binary,
# each test known to ctest. Label `grpc_client`: gRPC's own client shares their process with a server
# (see tests/run.sh), `cli`: they start built binaries, `bench`: of benchmarks alone. SEQUENTIAL: it starts
# no threads.
# Target `engram_tests` is all that need no built binaries, without what those are made of; for
# ThreadSanitizer without what it would find nothing in, or is not run with.
add_custom_target(engram_tests)
function(engram_test name)
  cmake_parse_arguments(ARG "SEQUENTIAL" "LABEL" "SOURCES;DEPS" ${ARGN})
  engram_binary(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} OPTIONS engram_test_options)
  target_link_libraries(${name} PRIVATE GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 240 LABELS "${ARG_LABEL}"
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(ENGRAM_SANITIZE STREQUAL thread AND (ARG_SEQUENTIAL OR ARG_LABEL STREQUAL grpc_client))
    return()
  endif()
  if(NOT ARG_LABEL MATCHES "^(cli|bench)$")
    add_dependencies(engram_tests ${name})
  endif()
endfunction()

# engram_protobuf(NAME [GRPC] PROTOS file... [DEPS target...]): generated messages, or with GRPC the
# stubs of their services (the messages are a target of their own, for what knows no gRPC). Compiled
# without our warnings. Files are named, and import each other, from the current folder.
set(ENGRAM_GENERATED ${CMAKE_BINARY_DIR}/generated)
function(engram_protobuf name)
  cmake_parse_arguments(ARG "GRPC" "" "PROTOS;DEPS" ${ARGN})
  set(generated)
  foreach(proto ${ARG_PROTOS})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    if(ARG_GRPC)
      set(outputs ${ENGRAM_GENERATED}/${stem}.grpc.pb.cc ${ENGRAM_GENERATED}/${stem}.grpc.pb.h)
      set(arguments --grpc_out=${ENGRAM_GENERATED}
        --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>)
    else()
      set(outputs ${ENGRAM_GENERATED}/${stem}.pb.cc ${ENGRAM_GENERATED}/${stem}.pb.h)
      set(arguments --cpp_out=${ENGRAM_GENERATED})
    endif()
    add_custom_command(OUTPUT ${outputs}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${ENGRAM_GENERATED}
      COMMAND protobuf::protoc -I ${CMAKE_CURRENT_SOURCE_DIR} ${arguments} ${proto}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${proto} VERBATIM)
    list(APPEND generated ${outputs})
  endforeach()
  add_library(${name} STATIC ${generated})
  target_include_directories(${name} SYSTEM PUBLIC ${ENGRAM_GENERATED})
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()
