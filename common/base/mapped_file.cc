#include "common/base/mapped_file.h"

#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr size_t kSpoolBytes = size_t{1} << 20;

class ScopedFd {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ~ScopedFd() {
    if (fd_ >= 0) close(fd_);
  }
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  int get() const { return fd_; }
  int Replace(int fd) { return std::exchange(fd_, fd); }  // the caller closes what it was

 private:
  int fd_;
};

// Makes `fd`, a pipe, a file in memory that holds what the pipe did.
absl::Status Spool(const std::string& path, ScopedFd* fd) {
  const int memory = memfd_create("pregate", MFD_CLOEXEC);
  if (memory < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": memfd"));
  const ScopedFd pipe(fd->Replace(memory));
  std::vector<char> chunk(kSpoolBytes);
  ssize_t count = 0;
  for (uint64_t size = 0; (count = read(pipe.get(), chunk.data(), chunk.size())) > 0;) {
    size += count;
    if (size > kPipedFileBytesMax) {
      return absl::OutOfRangeError(
          absl::StrCat(path, ": a pipe of more than ", kPipedFileBytesMax, " bytes"));
    }
    if (write(memory, chunk.data(), count) != count) count = -1;
    if (count < 0) break;
  }
  return count < 0 ? absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot read"))
                   : absl::OkStatus();
}

// Bytes of a mapping's last page behind the file's end. They read as zeros; AddressSanitizer is
// told to catch that as it does behind a heap buffer. (In other builds its macros do nothing.)
size_t PageRest(size_t size) {
  constexpr size_t kPageBytes = 4096;
  return (kPageBytes - size % kPageBytes) % kPageBytes;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  ScopedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": stat"));
  if (S_ISFIFO(info.st_mode)) {
    RETURN_IF_ERROR(Spool(path, &fd));
    if (fstat(fd.get(), &info) != 0)
      return absl::ErrnoToStatus(errno, absl::StrCat(path, ": stat"));
  } else if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  const size_t size = static_cast<size_t>(info.st_size);
  const void* data = nullptr;
  if (size > 0) {  // mmap refuses an empty range
    data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": mmap"));
    ASAN_POISON_MEMORY_REGION(static_cast<const char*>(data) + size, PageRest(size));
  }
  std::shared_ptr<const MappedFile> file(
      new MappedFile(path, static_cast<const char*>(data), size));
  // What a clone without Git LFS leaves in the place of any model file.
  if (file->bytes().starts_with("version https://git-lfs.github.com/spec/")) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": is no GGUF, safetensors or JSON, but a Git LFS pointer: `git lfs pull` fetches the "
        "file itself"));
  }
  return file;
}

MappedFile::~MappedFile() {
  if (size_ == 0) return;
  ASAN_UNPOISON_MEMORY_REGION(data_ + size_, PageRest(size_));
  munmap(const_cast<char*>(data_), size_);
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t bytes_max) {
  ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  if (file->bytes().size() > bytes_max) {
    return absl::OutOfRangeError(absl::StrCat(path, ": ", file->bytes().size(),
                                              " bytes, more than the limit of ", bytes_max));
  }
  return std::string(file->bytes());
}

}  // namespace pregate
