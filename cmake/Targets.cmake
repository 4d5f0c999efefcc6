include(GoogleTest)

# pregate_library(NAME SOURCES a.cc ... DEPS pregate::x ...): one static library a folder.
# NAME mirrors the folder: common/base -> pregate_common_base, alias pregate::common_base.
function(pregate_library NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(pregate_${NAME} STATIC ${ARG_SOURCES})
    target_link_libraries(pregate_${NAME} PUBLIC ${ARG_DEPS} PRIVATE pregate_flags)
    target_include_directories(pregate_${NAME} PUBLIC ${CMAKE_SOURCE_DIR})
    set_target_properties(pregate_${NAME} PROPERTIES UNITY_BUILD ${PREGATE_UNITY} UNITY_BUILD_BATCH_SIZE 16)
  else()
    add_library(pregate_${NAME} INTERFACE)
    target_link_libraries(pregate_${NAME} INTERFACE ${ARG_DEPS})
    target_include_directories(pregate_${NAME} INTERFACE ${CMAKE_SOURCE_DIR})
  endif()
  add_library(pregate::${NAME} ALIAS pregate_${NAME})
endfunction()

# pregate_executable(NAME SOURCES ... DEPS ...): lands in build/PRESET/bin/NAME.
function(pregate_executable NAME)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${NAME} ${ARG_SOURCES})
  target_link_libraries(${NAME} PRIVATE ${ARG_DEPS} pregate_flags)
  set_target_properties(${NAME} PROPERTIES UNITY_BUILD ${PREGATE_UNITY} UNITY_BUILD_BATCH_SIZE 16)
endfunction()

# A test's limit in seconds, and five times as much under a sanitizer, which makes programs two to ten times as slow.
function(pregate_test_timeout NAME SECONDS)
  if(PREGATE_SANITIZE)
    math(EXPR SECONDS "${SECONDS} * 5")
  endif()
  set_tests_properties(${NAME} PROPERTIES TIMEOUT ${SECONDS})
endfunction()

# pregate_script_test(NAME LABEL label ... [TIMEOUT seconds] [SERIAL] [NEEDS need ...] COMMAND ...): a test that is no program of
# ours. NEEDS: programs, and tools:GROUP for scripts/tools.sh; where one is missing the test is skipped and says why.
function(pregate_script_test NAME)
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "LABEL;NEEDS;COMMAND" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_test(NAME ${NAME} COMMAND ${CMAKE_SOURCE_DIR}/tests/with.sh ${ARG_NEEDS} -- ${ARG_COMMAND})
  set_tests_properties(${NAME} PROPERTIES LABELS "${ARG_LABEL}" RUN_SERIAL ${ARG_SERIAL} SKIP_RETURN_CODE 77)
  pregate_test_timeout(${NAME} ${ARG_TIMEOUT})
endfunction()

# pregate_test(NAME LABEL unit|contract|integration|sim ... SOURCES ... DEPS ...): a GoogleTest program.
function(pregate_test NAME)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LABEL;SOURCES;DEPS" ${ARGN})
  if(NOT PREGATE_TESTS)
    return()
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${NAME} ${ARG_SOURCES})
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${NAME} PRIVATE ${ARG_DEPS} pregate_flags GTest::gmock GTest::gtest_main)
  add_test(NAME ${NAME} COMMAND ${NAME} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  pregate_test_timeout(${NAME} ${ARG_TIMEOUT})
  set_tests_properties(${NAME} PROPERTIES LABELS "${ARG_LABEL}"
    ENVIRONMENT "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/cmake/tsan.supp")
endfunction()
