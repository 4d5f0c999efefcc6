// A library that the CUDA driver loads into a program and that writes down when its kernels ran, without
// holding them up (CUPTI's activity records; ncu makes kernels run one by one and costs minutes).
// usage: CUDA_INJECTION64_PATH=libgpu_kernel_trace.so KERNEL_TRACE=FILE PROGRAM...
// FILE: lines `start;end;grid;kernel`, ns, and one for each call of cudaProfilerStart and Stop, which
// kernel_times.py takes as marks.
#include <cupti.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Record {
  uint64_t start_ns, end_ns;
  int grid[3];
  std::string name;
};

struct Trace {
  std::mutex mutex;
  std::vector<Record> records;
};
Trace& TheTrace() {
  static auto* trace = new Trace;  // outlives what runs at exit
  return *trace;
}

void Add(Record record) {
  Trace& trace = TheTrace();
  const std::lock_guard<std::mutex> lock(trace.mutex);
  trace.records.push_back(std::move(record));
}

void GiveBuffer(uint8_t** buffer, size_t* bytes, size_t* records_max) {
  *bytes = size_t{8} << 20;
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, *bytes));
  *records_max = 0;  // as many as fit
}

void TakeBuffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid_bytes) {
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid_bytes, &record) == CUPTI_SUCCESS) {
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
    Add({kernel->start,
         kernel->end,
         {kernel->gridX, kernel->gridY, kernel->gridZ},
         kernel->name != nullptr ? kernel->name : "?"});
  }
  std::free(buffer);
}

void NoteMark(void*, CUpti_CallbackDomain, CUpti_CallbackId, const void* data) {
  const auto* call = static_cast<const CUpti_CallbackData*>(data);
  if (call->callbackSite != CUPTI_API_ENTER) return;
  uint64_t now = 0;
  cuptiGetTimestamp(&now);
  Add({now, now, {}, call->functionName});
}

void Write() {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  const char* path = std::getenv("KERNEL_TRACE");
  std::FILE* out = path != nullptr ? std::fopen(path, "w") : nullptr;
  if (out == nullptr) {
    std::fprintf(stderr, "kernel_trace: KERNEL_TRACE = %s: cannot be written\n",
                 path != nullptr ? path : "(unset)");
    return;
  }
  std::vector<Record>& records = TheTrace().records;
  std::sort(records.begin(), records.end(),
            [](const Record& a, const Record& b) { return a.start_ns < b.start_ns; });
  for (const Record& r : records) {
    std::fprintf(out, "%llu;%llu;%dx%dx%d;%s\n", static_cast<unsigned long long>(r.start_ns),
                 static_cast<unsigned long long>(r.end_ns), r.grid[0], r.grid[1], r.grid[2],
                 r.name.c_str());
  }
  std::fclose(out);
}

}  // namespace

extern "C" int InitializeInjection() {
  cuptiActivityRegisterCallbacks(GiveBuffer, TakeBuffer);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  CUpti_SubscriberHandle subscriber;
  cuptiSubscribe(&subscriber, NoteMark, nullptr);
  for (const auto mark : {CUPTI_RUNTIME_TRACE_CBID_cudaProfilerStart_v4000,
                          CUPTI_RUNTIME_TRACE_CBID_cudaProfilerStop_v4000}) {
    cuptiEnableCallback(1, subscriber, CUPTI_CB_DOMAIN_RUNTIME_API, mark);
  }
  std::atexit(Write);
  return 1;
}
