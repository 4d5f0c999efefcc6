# The CUDA language, for Hopper, and as PTX for cards after it. Included where PREGATE_CUDA is on.
set(CMAKE_CUDA_COMPILER ${PREGATE_NVCC})
set(CMAKE_CUDA_ARCHITECTURES 90a-real 90-virtual CACHE STRING "Compute capabilities to build kernels for")
enable_language(CUDA)
# CMake 3.25 does not know C++20 for nvcc and would drop it without a word.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
# Kernels are optimised in every build type; line numbers let ncu and compute-sanitizer name them.
foreach(type RELEASE RELWITHDEBINFO DEBUG)
  set(CMAKE_CUDA_FLAGS_${type} "-O3 -lineinfo")
endforeach()
if(CCACHE_PROGRAM)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
