option(PREGATE_GRPC "Build the gRPC edges of the services (off: engine and core alone)" ON)
option(PREGATE_TESTS "Build tests" ON)
option(PREGATE_REFACTOR "Build pregate-refactor, the only user of LibTorch" OFF)
option(PREGATE_BENCH "Build the benchmark programs" OFF)
# Headers of Abseil, protobuf and nlohmann-json are most of a compilation: a library as a few units builds three
# times as fast. Off, each file compiles alone.
option(PREGATE_UNITY "Compile each library as a few large units" OFF)
option(PREGATE_WERROR "Treat warnings in our own code as errors" ON)
set(PREGATE_SANITIZE "" CACHE STRING "Sanitizers for -fsanitize=, for example address,undefined or thread")
