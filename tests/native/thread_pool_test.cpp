#include "tumortrace/thread_pool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <limits>
#include <mutex>
#include <ostream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "allocations.hpp"

using tumortrace::ThreadPool;

TEST_CASE("every number is in one part, and parts follow one another") {
    for (const std::size_t threads : {1U, 2U, 3U, 7U}) {
        ThreadPool pool(threads);
        for (std::size_t count = 0; count < 20; ++count) {
            std::vector<std::size_t> begins(threads), ends(threads);
            const std::size_t parts = pool.share(count, [&](std::size_t part, std::size_t begin, std::size_t end) {
                begins[part] = begin;
                ends[part] = end;
            });
            REQUIRE(parts == std::min(threads, count));
            std::size_t stop = 0;
            for (std::size_t part = 0; part < parts; ++part) {
                CHECK(begins[part] == stop);
                CHECK(ends[part] > begins[part]);
                stop = ends[part];
            }
            CHECK(stop == count);
        }
    }
}

TEST_CASE("one thread is the caller's") {
    ThreadPool pool(1);
    std::thread::id worked;
    pool.share(5, [&](std::size_t, std::size_t, std::size_t) { worked = std::this_thread::get_id(); });
    CHECK((worked == std::this_thread::get_id()));
}

TEST_CASE("parts are worked on at the same time") {
    constexpr std::size_t threads = 3;
    ThreadPool pool(threads);
    std::mutex mutex;
    std::condition_variable all_there;
    std::size_t there = 0;
    // One after the other, they would wait for ever.
    pool.share(threads, [&](std::size_t, std::size_t, std::size_t) {
        std::unique_lock<std::mutex> lock(mutex);
        ++there;
        all_there.notify_all();
        all_there.wait(lock, [&] { return there == threads; });
    });
    CHECK(there == threads);
}

TEST_CASE("what a task throws reaches the caller, and the threads work on") {
    for (const std::size_t threads : {1U, 4U}) {
        ThreadPool pool(threads);
        for (std::size_t thrower = 0; thrower < threads; ++thrower) {
            const auto task = [&](std::size_t part, std::size_t, std::size_t) {
                if (part == thrower) throw std::runtime_error("no");
            };
            CHECK_THROWS_AS(pool.share(threads, task), std::runtime_error);
            std::atomic<std::size_t> sum{0};
            pool.share(100, [&](std::size_t, std::size_t begin, std::size_t end) { sum += end - begin; });
            CHECK(sum == 100);
        }
    }
}

TEST_CASE("work is shared without allocating") {
    ThreadPool pool(2);
    std::vector<std::size_t> ends(2);
    const std::size_t before = allocations();
    for (std::size_t count = 0; count < 50; ++count) {
        pool.share(count, [&](std::size_t part, std::size_t, std::size_t end) { ends[part] = end; });
    }
    CHECK(allocations() == before);
}

TEST_CASE("threads that cannot be are refused") {
    CHECK_THROWS_AS(ThreadPool(0), std::invalid_argument);
    CHECK_THROWS_AS(ThreadPool(1025), std::invalid_argument);
    CHECK_THROWS_AS(ThreadPool(std::numeric_limits<std::size_t>::max()), std::invalid_argument);
}
