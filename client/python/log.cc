#include "client/python/log.h"

#include "client/python/gil.h"

namespace py = pybind11;

namespace engram::python {
namespace {

constexpr size_t kMostLines = 10'000;

void Deliver(LogQueue& queue, const py::function& log) {
  while (true) {
    const std::optional<std::string> line = WithoutGil([&] { return queue.Take(); });
    if (!line) return;
    const auto text = py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(line->data(), static_cast<Py_ssize_t>(line->size()), "replace"));
    PyObject* const answer = text ? PyObject_CallOneArg(log.ptr(), text.ptr()) : nullptr;
    if (answer == nullptr) PyErr_WriteUnraisable(log.ptr());
    Py_XDECREF(answer);
  }
}

}  // namespace

void LogQueue::Put(void* user, const char* line) {
  auto& queue = *static_cast<LogQueue*>(user);
  const std::lock_guard lock(queue.mutex_);
  if (queue.lines_.size() >= kMostLines) return;
  queue.lines_.emplace_back(line);
  queue.changed_.notify_one();
}

std::optional<std::string> LogQueue::Take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || !lines_.empty(); });
  if (lines_.empty()) return std::nullopt;
  std::optional<std::string> line = std::move(lines_.front());
  lines_.pop_front();
  return line;
}

void LogQueue::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

std::shared_ptr<LogQueue> StartLog(py::handle log) {
  if (log.is_none()) return nullptr;
  if (PyCallable_Check(log.ptr()) == 0) {
    throw py::type_error(std::string("log is a ") + Py_TYPE(log.ptr())->tp_name +
                         ", which cannot be called");
  }
  auto queue = std::make_shared<LogQueue>();
  const auto call = py::reinterpret_borrow<py::function>(log);
  const py::cpp_function deliver([queue, call] { Deliver(*queue, call); });
  py::module_::import("threading")
      .attr("Thread")(py::arg("target") = deliver, py::arg("name") = "engram-log",
                      py::arg("daemon") = true)
      .attr("start")();
  return queue;
}

}  // namespace engram::python
