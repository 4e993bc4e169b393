# Debian packages by CPack: engram-server, libengram-client1, libengram-client-dev, python3-engram-client.
# Made by deploy/packages.sh in a tree whose prefix is /usr; what only packages have is installed here.
set(package_files ${CMAKE_SOURCE_DIR}/deploy/packages)
set(made ${CMAKE_BINARY_DIR}/packages-made)
get_target_property(soversion engram_client_shared SOVERSION)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "${ENGRAM_MAINTAINER}")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_VERSION_FULL ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_SET_DESTDIR ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_COMPONENTS_ALL server client-runtime client-dev python)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR}/lib)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")

configure_file(${package_files}/changelog.in ${made}/changelog.Debian @ONLY)
execute_process(COMMAND gzip -9nf ${made}/changelog.Debian COMMAND_ERROR_IS_FATAL ANY)

# engram_package(COMPONENT NAME SECTION SUMMARY TEXT [DEPENDS list] [SUGGESTS list])
macro(engram_package component name section summary text)
  cmake_parse_arguments(ARG "" "DEPENDS;SUGGESTS" "" ${ARGN})
  string(TOUPPER ${component} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
  set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION ${section})
  set(CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS "${ARG_DEPENDS}")
  set(CPACK_DEBIAN_${upper}_PACKAGE_SUGGESTS "${ARG_SUGGESTS}")
  set(CPACK_DEBIAN_${upper}_DESCRIPTION "${summary}\n${text}")
  file(GLOB CPACK_DEBIAN_${upper}_PACKAGE_CONTROL_EXTRA ${package_files}/${component}/*)
  install(FILES ${package_files}/copyright ${made}/changelog.Debian.gz
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} COMPONENT ${component})
  if(EXISTS ${package_files}/lintian/${name})
    install(FILES ${package_files}/lintian/${name}
      DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides COMPONENT ${component})
  endif()
endmacro()

engram_package(server engram-server net "memory server for the Engram tables of language models"
  "engramd keeps a shard of a model's tables in memory and serves their rows
over gRPC; engramctl looks rows up, checks servers and publishes changed
tables. Servers are instances of the systemd unit engramd@."
  DEPENDS "systemd | systemd-standalone-sysusers, passwd")
engram_package(client-runtime libengram-client${soversion} libs "client library of Engram memory servers"
  "Looks rows of Engram tables up on memory servers before the layers that
need them run, behind a C ABI.")
engram_package(client-dev libengram-client-dev libdevel "client library of Engram memory servers (development)"
  "Headers for C and C++, and what CMake and pkg-config find the library by."
  DEPENDS "libengram-client${soversion} (= ${CPACK_DEBIAN_PACKAGE_VERSION_FULL})")
engram_package(python python3-engram-client python "client library of Engram memory servers (Python 3)"
  "Rows of Engram tables for numpy, buffers and torch, and for vLLM and SGLang
in the place of their tables."
  DEPENDS "libengram-client${soversion} (= ${CPACK_DEBIAN_PACKAGE_VERSION_FULL}), python3 (>= 3.11), python3 (<< 3.12), python3-numpy"
  SUGGESTS "python3-torch, python3-prometheus-client")

configure_file(${package_files}/engramd@.service.in ${made}/engramd@.service @ONLY)
install(FILES ${made}/engramd@.service DESTINATION lib/systemd/system COMPONENT server)
install(FILES ${package_files}/engram-server.sysusers DESTINATION lib/sysusers.d
  RENAME engram-server.conf COMPONENT server)
install(FILES ${package_files}/example.toml DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/engram
  COMPONENT server)
install(FILES ${CMAKE_SOURCE_DIR}/service/README.md ${CMAKE_SOURCE_DIR}/deploy/metrics.md
  DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/engram-server COMPONENT server)

# Where Debian's python3 looks; the library is the system's, not one beside the extension.
set(modules_dir lib/python3/dist-packages/engram_client)
set_target_properties(engram_client_python PROPERTIES INSTALL_RPATH "")
install(TARGETS engram_client_python LIBRARY DESTINATION ${modules_dir} COMPONENT python)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/client/python/engram_client/ DESTINATION ${modules_dir}
  COMPONENT python FILES_MATCHING PATTERN *.py PATTERN *.pyi PATTERN py.typed)

include(CPack)
