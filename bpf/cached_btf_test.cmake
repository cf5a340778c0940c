# SPDX-License-Identifier: Apache-2.0
# Test of ktstr_cached_btf: cmake -P bpf/cached_btf_test.cmake, in a directory of its own.
include(${CMAKE_CURRENT_LIST_DIR}/KtstrBpf.cmake)
set(cache ${CMAKE_CURRENT_BINARY_DIR}/cached_btf_test)
file(REMOVE_RECURSE ${cache})
set(newest_first 7.3.4+deb13-cloud-amd64-x86_64-1d0f35c87a2b9e64
  deb-linux-binary-7.3.3+deb13-cloud-amd64-7.3.3-1~bpo13+1-x86_64
  6.18.15+deb13-cloud-amd64-x86_64-9d0f35c87a2b9e64 6.1.0-44-cloud-amd64-x86_64-5d0f35c87a2b9e64)
set(want "")
foreach(key ${newest_first})
  file(WRITE ${cache}/kernels/${key}/vmlinux.btf "")
  list(APPEND want ${cache}/kernels/${key}/vmlinux.btf)
endforeach()
ktstr_cached_btf(${cache} found)
file(REMOVE_RECURSE ${cache})
if(NOT "${found}" STREQUAL "${want}")
  message(FATAL_ERROR "found: ${found}\nwanted: ${want}")
endif()
