# `cmake --install` and the Debian package (scripts/package.sh). A build without gRPC has no programs to install.
include(GNUInstallDirs)
install(TARGETS pregate pregate-router pregate-worker pregate-scheduler pregate-gateway RUNTIME)
if(TARGET pregate-refactor)
  install(TARGETS pregate-refactor RUNTIME)
endif()
# The contract for clients in any language, and what operates the programs.
install(DIRECTORY proto/ DESTINATION ${CMAKE_INSTALL_DATADIR}/pregate/proto
  FILES_MATCHING PATTERN "*.proto" PATTERN baseline EXCLUDE)
# For C++ what the proto file becomes: find_package(pregate), pregate::client (examples/cpp).
include(CMakePackageConfigHelpers)
set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/pregate)
install(TARGETS pregate_client EXPORT pregate INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/proto/pregate/v1/inference.pb.h ${CMAKE_BINARY_DIR}/proto/pregate/v1/inference.grpc.pb.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pregate/v1)
install(EXPORT pregate NAMESPACE pregate:: DESTINATION ${cmake_dir} FILE pregateTargets.cmake)
write_basic_package_version_file(pregateConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/pregateConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/pregateConfigVersion.cmake DESTINATION ${cmake_dir})
install(DIRECTORY deploy/prometheus/rules DESTINATION ${CMAKE_INSTALL_DATADIR}/pregate/prometheus
  FILES_MATCHING PATTERN "*.yml" PATTERN tests EXCLUDE)
install(DIRECTORY deploy/grafana DESTINATION ${CMAKE_INSTALL_DATADIR}/pregate FILES_MATCHING PATTERN "*.json")
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/pregate/models)
install(DIRECTORY docs examples DESTINATION ${CMAKE_INSTALL_DOCDIR} PATTERN __pycache__ EXCLUDE)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)  # where Debian looks for it

# Completion, as `pregate` itself writes it. bash and fish look for a file of each program's name, zsh reads which it is for.
foreach(program pregate pregate-router pregate-worker pregate-scheduler pregate-gateway)
  list(APPEND completions bash ${CMAKE_INSTALL_DATADIR}/bash-completion/completions/${program}
    fish ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/${program}.fish)
endforeach()
list(APPEND completions zsh ${CMAKE_INSTALL_DATADIR}/zsh/site-functions/_pregate)
while(completions)
  list(POP_FRONT completions shell file)
  install(CODE "
    set(file \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${file}\")
    get_filename_component(folder \"\${file}\" DIRECTORY)
    file(MAKE_DIRECTORY \"\${folder}\")
    execute_process(COMMAND \"$<TARGET_FILE:pregate>\" completion ${shell} OUTPUT_FILE \"\${file}\" COMMAND_ERROR_IS_FATAL ANY)")
endwhile()

set(CPACK_PACKAGE_NAME pregate)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "server of mixture-of-experts LLMs whose routing is known before the model runs")
set(CPACK_PACKAGE_CONTACT "The pregate authors <pregate@localhost>")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
# The CUDA libraries belong to no Debian package, so none can depend on them.
if(PREGATE_CUDA)
  set(CPACK_GENERATOR TGZ)
else()
  set(CPACK_GENERATOR DEB)
endif()
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION misc)
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
include(CPack)
