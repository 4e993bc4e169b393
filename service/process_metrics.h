// What the kernel says of this process.
#ifndef ENGRAM_SERVICE_PROCESS_METRICS_H_
#define ENGRAM_SERVICE_PROCESS_METRICS_H_

#include "proto/base/metric.h"

namespace engram {

// Memory, huge pages, faults, CPU, descriptors and start time; from /proc, 0 where that is not to
// be read.
void AddProcessMetrics(MetricList& metrics);

}  // namespace engram

#endif  // ENGRAM_SERVICE_PROCESS_METRICS_H_
