# SPDX-License-Identifier: Apache-2.0
# Compiler, build types and switches of the whole build.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

option(KTSTR_WERROR "Warnings are errors" ON)
option(KTSTR_FUZZ "Build libFuzzer targets (clang only)" OFF)
option(KTSTR_COVERAGE "Instrument for gcov" OFF)
set(KTSTR_SANITIZE "" CACHE STRING "Value of -fsanitize= for host code; empty: none")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Dev CACHE STRING "" FORCE)
endif()
# Dev: assertions on, light optimization, line tables only; compiles and runs fast.
set(CMAKE_CXX_FLAGS_DEV "-O1 -g1")
set(CMAKE_C_FLAGS_DEV "-O1 -g1")

find_program(CCACHE ccache)
if(CCACHE)
  # With paths relative to the checkout, ccache also hits in another checkout and with another preset.
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

add_library(ktstr_flags INTERFACE)
target_compile_options(ktstr_flags INTERFACE -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers)
if(KTSTR_WERROR)
  target_compile_options(ktstr_flags INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(ktstr_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wthread-safety>)
endif()
# The static guest agent links this instead: sanitizer run times do not work as PID 1.
add_library(ktstr_host_flags INTERFACE)
target_link_libraries(ktstr_host_flags INTERFACE ktstr_flags)
if(KTSTR_SANITIZE)
  target_compile_options(ktstr_host_flags INTERFACE -fsanitize=${KTSTR_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(ktstr_host_flags INTERFACE -fsanitize=${KTSTR_SANITIZE})
endif()
if(KTSTR_FUZZ)
  # The libraries too: libFuzzer needs their coverage.
  target_compile_options(ktstr_host_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(ktstr_host_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(KTSTR_COVERAGE)
  target_compile_options(ktstr_host_flags INTERFACE --coverage)
  target_link_options(ktstr_host_flags INTERFACE --coverage)
endif()
