// Loops compiled for several vector extensions, the right one chosen as the program runs.

#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tumortrace {

/// Vector registers that a loop can be compiled for. On architectures other than x86-64 there is the baseline alone,
/// which on Arm includes NEON.
enum class Vectors { baseline, avx2, avx512 };

#if defined(__x86_64__)

namespace detail {

/// Whether the CPU turns float16 into float32 and back. Clang's `__builtin_cpu_supports` does not know the name.
inline bool has_f16c() noexcept {
    static const bool found = [] {
        unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
        return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
    }();
    return found;
}

}  // namespace detail

#endif

/// Whether CPU and operating system support them.
inline bool has(Vectors vectors) noexcept {
#if defined(__x86_64__)
    switch (vectors) {
        case Vectors::avx512:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && has(Vectors::avx2);
        case Vectors::avx2:
            return __builtin_cpu_supports("avx2") && detail::has_f16c();
        default:
            return true;
    }
#else
    return vectors == Vectors::baseline;
#endif
}

/// The widest that are supported.
inline Vectors widest_vectors() noexcept {
    static const Vectors widest = has(Vectors::avx512) ? Vectors::avx512
                                  : has(Vectors::avx2) ? Vectors::avx2
                                                       : Vectors::baseline;
    return widest;
}

#if defined(__x86_64__)

namespace detail {

// Flattening compiles everything that the loop calls anew, with the caller's instructions.
template <typename Loop>
__attribute__((target("avx2,f16c"), flatten)) inline void run_avx2(const Loop& loop) {
    loop();
}

template <typename Loop>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c"), flatten)) inline void run_avx512(const Loop& loop) {
    loop();
}

}  // namespace detail

/// Calls `loop` as compiled for `vectors`, which must be supported.
template <typename Loop>
inline void vectorised(Vectors vectors, const Loop& loop) {
    switch (vectors) {
        case Vectors::avx512:
            return detail::run_avx512(loop);
        case Vectors::avx2:
            return detail::run_avx2(loop);
        default:
            return loop();
    }
}

#else

/// Calls `loop`.
template <typename Loop>
inline void vectorised(Vectors, const Loop& loop) {
    loop();
}

#endif

}  // namespace tumortrace
