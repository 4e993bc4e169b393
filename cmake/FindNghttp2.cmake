# nghttp2: HTTP/2 framing and header compression. Defines Nghttp2::nghttp2.
find_path(Nghttp2_INCLUDE_DIR nghttp2/nghttp2.h)
# The archive where there is one: it goes into libengram_client.so, whose host may have another.
find_library(Nghttp2_ARCHIVE NAMES libnghttp2.a nghttp2)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Nghttp2 REQUIRED_VARS Nghttp2_ARCHIVE Nghttp2_INCLUDE_DIR)
if(Nghttp2_FOUND AND NOT TARGET Nghttp2::nghttp2)
  add_library(Nghttp2::nghttp2 UNKNOWN IMPORTED)
  set_target_properties(Nghttp2::nghttp2 PROPERTIES
    IMPORTED_LOCATION ${Nghttp2_ARCHIVE} INTERFACE_INCLUDE_DIRECTORIES ${Nghttp2_INCLUDE_DIR})
endif()
