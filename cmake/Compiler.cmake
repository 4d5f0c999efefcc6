set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Relative paths in the hash let every checkout and preset share one cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE_PROGRAM})
endif()

# Every pregate target links this: the warnings we keep and the sanitizer of the preset.
add_library(pregate_flags INTERFACE)
set(PREGATE_WARNINGS -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers)
if(PREGATE_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC's warnings of data flow see the sanitizers' own code too, and misjudge it: here they are no errors, and the worst is off.
  list(APPEND PREGATE_WARNINGS -Wno-maybe-uninitialized)
elseif(PREGATE_WERROR)
  list(APPEND PREGATE_WARNINGS -Werror)
endif()
# nvcc hands them to its host compiler, in one piece.
list(JOIN PREGATE_WARNINGS , PREGATE_NVCC_WARNINGS)
target_compile_options(pregate_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:${PREGATE_WARNINGS}>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${PREGATE_NVCC_WARNINGS}>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # At -O3 it takes the assignment of a one-letter literal to a std::string for an overlapping copy (GCC bug 105651).
  target_compile_options(pregate_flags INTERFACE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-Wno-restrict>)
endif()
if(PREGATE_SANITIZE)
  # The first finding ends a program: one that is only printed fails no test.
  add_compile_options(-fsanitize=${PREGATE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${PREGATE_SANITIZE})
endif()
if(PREGATE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link -D_GLIBCXX_ASSERTIONS)  # the standard library's preconditions end it too
endif()
target_include_directories(pregate_flags INTERFACE ${CMAKE_SOURCE_DIR})
