#include "tumortrace/cpu_features.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace {

/// The instruction sets that the Linux kernel lists for the first CPU.
std::set<std::string> kernel_features() {
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);) {
        if (line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0) {
            std::istringstream words(line.substr(line.find(':') + 1));
            std::set<std::string> names;
            for (std::string name; words >> name;) {
                names.insert(name);
            }
            return names;
        }
    }
    return {};
}

}  // namespace

TEST_CASE("the kernel and the CPU agree on the instruction sets") {
    const auto kernel = kernel_features();
    REQUIRE_FALSE(kernel.empty());
    std::set<std::string> expected;
    for (const char* name : {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
                             "asimdhp", "asimddp", "i8mm", "bf16"}) {
        if (kernel.count(name) != 0) {
            expected.insert(name);
        }
    }
    const auto features = tumortrace::cpu_features();
    CHECK(std::set<std::string>(features.begin(), features.end()) == expected);
}
