# Whether client/cuda is built, and with which headers and compiler. Nothing of CUDA is linked: the
# driver library is opened at run time.
set(ENGRAM_CUDA AUTO CACHE STRING "Words and copies for CUDA streams: ON, OFF, AUTO (where cuda.h is)")

set(ENGRAM_WITH_CUDA OFF)
if(ENGRAM_CUDA STREQUAL "AUTO" AND CMAKE_CROSSCOMPILING)
  message(STATUS "CUDA: left out of a cross build; ENGRAM_CUDA=ON builds it")
elseif(ENGRAM_CUDA)
  find_program(ENGRAM_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  find_path(ENGRAM_CUDA_INCLUDE_DIR cuda.h
    HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES include)
  if(ENGRAM_CUDA_INCLUDE_DIR)
    set(ENGRAM_WITH_CUDA ON)
    message(STATUS "CUDA: client/cuda is built with ${ENGRAM_CUDA_INCLUDE_DIR}/cuda.h")
  elseif(ENGRAM_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA: no cuda.h, client/cuda and its tests are left out")
  else()
    message(FATAL_ERROR "ENGRAM_CUDA is ${ENGRAM_CUDA} and there is no cuda.h")
  endif()
else()
  message(STATUS "CUDA: client/cuda and its tests are left out, ENGRAM_CUDA is ${ENGRAM_CUDA}")
endif()
