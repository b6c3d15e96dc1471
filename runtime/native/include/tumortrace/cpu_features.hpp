// The instruction sets that decide how fast a network runs on this CPU, and whether INT8 is safe on it.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace tumortrace {

#if defined(__x86_64__)

namespace detail {

/// The vector state that the operating system saves: extended control register 0, or 0 where there is none.
inline std::uint64_t saved_state() noexcept {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    constexpr unsigned osxsave = 1U << 27;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & osxsave) == 0) {
        return 0;
    }
    std::uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (std::uint64_t{high} << 32) | low;
}

}  // namespace detail

/// Names, as Linux spells them in /proc/cpuinfo, of the instruction sets that CPU and operating system both support:
/// avx2, avx512f, avx512_vnni, avx_vnni, avx512_bf16, amx_int8, amx_bf16.
///
/// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID, leaf 7.
inline std::vector<std::string> cpu_features() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) {
        return {};
    }
    unsigned eax1 = 0, unused_b = 0, unused_c = 0, unused_d = 0;
    if (eax >= 1) {
        __cpuid_count(7, 1, eax1, unused_b, unused_c, unused_d);
    }
    constexpr std::uint64_t avx = 0x6, avx512 = 0xE6, amx = 0x60000;
    struct Feature {
        const char* name;
        unsigned word;
        unsigned bit;
        std::uint64_t state;
    };
    const Feature features[] = {
        {"avx2", ebx, 5, avx},      {"avx512f", ebx, 16, avx512},     {"avx512_vnni", ecx, 11, avx512},
        {"avx_vnni", eax1, 4, avx}, {"avx512_bf16", eax1, 5, avx512}, {"amx_int8", edx, 25, amx},
        {"amx_bf16", edx, 22, amx},
    };
    const std::uint64_t saved = detail::saved_state();
    std::vector<std::string> found;
    for (const Feature& feature : features) {
        if (((feature.word >> feature.bit) & 1U) != 0 && (saved & feature.state) == feature.state) {
            found.emplace_back(feature.name);
        }
    }
    return found;
}

#elif defined(__aarch64__) && defined(__linux__)

/// Names, as Linux spells them in /proc/cpuinfo, of the instruction sets that CPU and operating system both support:
/// asimdhp (FP16 arithmetic), asimddp (INT8 dot product), i8mm, bf16.
///
/// Source: Linux, Documentation/arch/arm64/elf_hwcaps.rst.
inline std::vector<std::string> cpu_features() {
    const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    std::vector<std::string> found;
    if ((first >> 10) & 1UL) found.emplace_back("asimdhp");
    if ((first >> 20) & 1UL) found.emplace_back("asimddp");
    if ((second >> 13) & 1UL) found.emplace_back("i8mm");
    if ((second >> 14) & 1UL) found.emplace_back("bf16");
    return found;
}

#else

/// Nothing is known about this architecture.
inline std::vector<std::string> cpu_features() { return {}; }

#endif

}  // namespace tumortrace
