// Threads that share work and sleep when there is none.

#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace tumortrace {

/// As many threads as the caller says, its own among them: of one, there is no other. They wait on a condition variable
/// and never spin, because an inference engine's threads run beside them.
///
/// Nothing is allocated after construction.
class ThreadPool {
  public:
    /// @throws std::invalid_argument `threads` is 0 or above 1024, or the system has no more
    explicit ThreadPool(std::size_t threads = 1) {
        constexpr std::size_t most = 1024;
        if (threads == 0 || threads > most) {
            throw std::invalid_argument(std::to_string(threads) + " threads given; 1 to " + std::to_string(most) +
                                        " wanted.");
        }
        others_.reserve(threads - 1);
        try {
            while (others_.size() + 1 < threads) {
                others_.emplace_back([this] { wait_for_work(); });
            }
        } catch (const std::system_error& error) {
            stop();
            throw std::invalid_argument(std::to_string(threads) + " threads: " + error.what());
        } catch (...) {
            stop();
            throw;
        }
    }

    ~ThreadPool() { stop(); }

    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    std::size_t threads() const noexcept { return others_.size() + 1; }

    /// Divides the numbers below `count` into parts, one for each thread and as even as they come, and calls
    /// task(part, begin, end) for each. One thread at a time may call this, and no task.
    ///
    /// @return how many parts there were: none where `count` is 0, else as many as threads or numbers
    /// @throws what a task throws, one of them where several do; then parts may be left out
    template <typename Task>
    std::size_t share(std::size_t count, const Task& task) {
        const std::size_t parts = std::min(threads(), count);
        const auto call = [&](std::size_t part) { task(part, count * part / parts, count * (part + 1) / parts); };
        if (parts == 1) {
            call(0);
        } else if (parts > 1) {
            using Call = decltype(call);
            run({[](const void* called, std::size_t part) { (*static_cast<const Call*>(called))(part); }, &call},
                parts);
        }
        return parts;
    }

  private:
    /// A function of the part, without its type.
    struct Work {
        void (*call)(const void*, std::size_t);
        const void* called;
    };

    void run(Work work, std::size_t parts) {
        std::unique_lock<std::mutex> lock(mutex_);
        work_ = work;
        next_ = 0;
        parts_ = parts;
        wake_.notify_all();
        take_parts(lock);
        done_.wait(lock, [this] { return running_ == 0; });
        if (error_) {
            std::rethrow_exception(std::exchange(error_, nullptr));
        }
    }

    void wait_for_work() {
        std::unique_lock<std::mutex> lock(mutex_);
        while (!stopping_) {
            take_parts(lock);
            if (running_ == 0) {
                done_.notify_one();
            }
            wake_.wait(lock, [this] { return stopping_ || next_ < parts_; });
        }
    }

    /// Calls the work for parts until none is left.
    void take_parts(std::unique_lock<std::mutex>& lock) {
        while (next_ < parts_) {
            const std::size_t part = next_++;
            ++running_;
            lock.unlock();
            std::exception_ptr error;
            try {
                work_.call(work_.called, part);
            } catch (...) {
                error = std::current_exception();
            }
            lock.lock();
            --running_;
            if (error) {
                error_ = error;
                next_ = parts_;
            }
        }
    }

    void stop() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
        }
        wake_.notify_all();
        for (std::thread& other : others_) {
            other.join();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    Work work_{};
    std::size_t parts_ = 0;
    std::size_t next_ = 0;     ///< part that no thread has taken yet
    std::size_t running_ = 0;  ///< parts that are being worked on
    std::exception_ptr error_;
    bool stopping_ = false;
    std::vector<std::thread> others_;
};

}  // namespace tumortrace
