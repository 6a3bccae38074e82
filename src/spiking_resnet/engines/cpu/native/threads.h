// Threads that wait for work: making new ones for every layer costs more than a small layer.

#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace {

class Pool {
public:
    // Runs `work` on this thread and on up to `others` more; returns when all have returned, or throws
    // the first exception that one of them met. While the pool is in use by another thread, this one
    // works alone. Throws std::system_error where the system starts no more threads.
    void run(int64_t others, const std::function<void()>& work) {
        std::unique_lock<std::mutex> use(in_use, std::try_to_lock);
        if (others < 1 || !use) return work();
        {
            std::lock_guard<std::mutex> lock(state);
            for (; workers < others; ++workers) std::thread([this] { serve(); }).detach();
            job = &work;
            wanted = others;
        }
        wake.notify_all();
        attempt(work);
        std::unique_lock<std::mutex> lock(state);
        wanted = 0;  // whoever has not begun need not
        done.wait(lock, [this] { return running == 0; });
        if (failed) std::rethrow_exception(std::exchange(failed, nullptr));
    }

private:
    static constexpr std::chrono::microseconds PATIENCE{300};  // before a thread goes to sleep

    // Runs `work`, and keeps its exception if it is the first.
    void attempt(const std::function<void()>& work) noexcept {
        try {
            work();
        } catch (...) {
            std::lock_guard<std::mutex> lock(state);
            if (!failed) failed = std::current_exception();
        }
    }

    [[noreturn]] void serve() {
        for (;;) {
            const auto begin = std::chrono::steady_clock::now();
            while (wanted == 0 && std::chrono::steady_clock::now() - begin < PATIENCE) {
            }
            std::unique_lock<std::mutex> lock(state);
            wake.wait(lock, [this] { return wanted > 0; });
            --wanted;
            ++running;
            const std::function<void()>* mine = job;
            lock.unlock();
            attempt(*mine);
            lock.lock();
            if (--running == 0) done.notify_all();
        }
    }

    std::mutex in_use, state;
    std::condition_variable wake, done;
    const std::function<void()>* job = nullptr;
    std::exception_ptr failed;
    std::atomic<int64_t> wanted{0};
    int64_t workers = 0, running = 0;
};

// The process's pool. It is never destroyed (its threads may outlive main), and a process made by
// fork, which has none of its parent's threads, gets one of its own.
Pool* current = nullptr;

Pool& pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        current = new Pool;
#if !defined(_WIN32)
        pthread_atfork(nullptr, nullptr, [] { current = new Pool; });
#endif
    });
    return *current;
}

// Calls work(task, desk) for every task on so many threads, this one among them; each thread makes
// itself a desk to work at. Once one has failed no task is begun, and its exception is thrown.
template <typename Make, typename Work>
void share(int64_t threads, int64_t tasks, const Make& make, const Work& work) {
    std::atomic<int64_t> next{0};
    const auto serve = [&] {
        int64_t task = next.fetch_add(1);
        if (task >= tasks) return;
        try {
            for (auto desk = make(); task < tasks; task = next.fetch_add(1)) work(task, desk);
        } catch (...) {
            next = tasks;
            throw;
        }
    };
    pool().run((threads < tasks ? threads : tasks) - 1, std::cref(serve));  // allocates nothing
}

template <typename Work>
void share(int64_t threads, int64_t tasks, const Work& work) {
    share(threads, tasks, [] { return 0; }, [&](int64_t task, int) { work(task); });
}

}  // namespace
