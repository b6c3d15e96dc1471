#include "tumortrace/cpu_features.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

namespace {

using Names = std::set<std::string>;

/// The instruction sets that the Linux kernel lists for the first CPU.
Names kernel_features() {
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);) {
        if (line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0) {
            std::istringstream words(line.substr(line.find(':') + 1));
            Names names;
            for (std::string name; words >> name;) {
                names.insert(name);
            }
            return names;
        }
    }
    return {};
}

Names found_features() {
    const auto features = tumortrace::cpu_features();
    return {features.begin(), features.end()};
}

/// The CPU that an emulator stands for, under which the kernel still lists what the real one has; null without one.
const char* emulated_cpu() { return std::getenv("TUMORTRACE_EMULATED_CPU"); }

}  // namespace

TEST_CASE("the kernel and the CPU agree on the instruction sets" * doctest::skip(emulated_cpu() != nullptr)) {
    const auto kernel = kernel_features();
    REQUIRE_FALSE(kernel.empty());
    Names expected;
    for (const char* name : {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
                             "asimdhp", "asimddp", "i8mm", "bf16"}) {
        if (kernel.count(name) != 0) {
            expected.insert(name);
        }
    }
    CHECK(found_features() == expected);
}

TEST_CASE("an emulated CPU has the instruction sets of the real one" * doctest::skip(emulated_cpu() == nullptr)) {
    const std::map<std::string, Names> wanted{{"cortex-a53", {}}, {"cortex-a76", {"asimddp", "asimdhp"}}};
    CHECK(found_features() == wanted.at(emulated_cpu()));
}
