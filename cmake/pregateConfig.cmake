# find_package(pregate): the target pregate::client, C++ code of pregate/v1/inference.proto. Needs the gRPC and protobuf that it was built with.
include(CMakeFindDependencyMacro)
find_dependency(Protobuf)
find_dependency(gRPC CONFIG)
include(${CMAKE_CURRENT_LIST_DIR}/pregateTargets.cmake)
