// Which columns of a scan's rows hold more than air, so that the rest need not be read again.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tumortrace/band.hpp"
#include "tumortrace/coverage.hpp"
#include "tumortrace/voxels.hpp"

namespace tumortrace {

/// The heads of all bands of all channels: eight bytes for eight rows, and no more memory for a scan like the last one.
class Heads {
  public:
    /// Starts anew, for a scan of this size.
    void reset(const Voxels& voxels) {
        slices_ = voxels.slices();
        rows_ = voxels.rows();
        columns_ = static_cast<std::uint32_t>(voxels.columns());
        heads_.resize(voxels.channels() * slices_ * bands_of(rows_));
    }

    /// Takes up the bands of a channel, in their order.
    ///
    /// @param is_air tells whether a level is air; columns of another one belong to the head
    template <typename IsAir>
    void set(std::size_t channel, const std::vector<BandHead>& bands, const IsAir& is_air) {
        std::transform(bands.begin(), bands.end(), heads_.begin() + static_cast<std::ptrdiff_t>(bands.size() * channel),
                       [&](const BandHead& band) {
                           return is_air(band.air) ? Columns{band.begin, band.end} : Columns{0, columns_};
                       });
    }

    /// The columns of some rows of a slice outside which there is only air.
    Extent columns(std::size_t channel, std::size_t slice, std::size_t row, std::size_t rows) const noexcept {
        const Columns* const bands = heads_.data() + (channel * slices_ + slice) * bands_of(rows_);
        Columns all{columns_, 0};
        for (std::size_t band = band_of(row, rows_); band <= band_of(row + rows - 1, rows_); ++band) {
            if (bands[band].begin == bands[band].end) continue;
            all = {std::min(all.begin, bands[band].begin), std::max(all.end, bands[band].end)};
        }
        return all.begin < all.end ? Extent{all.begin, all.end} : Extent{0, 0};
    }

  private:
    struct Columns {
        std::uint32_t begin;
        std::uint32_t end;
    };

    std::size_t slices_ = 0, rows_ = 0;
    std::uint32_t columns_ = 0;
    std::vector<Columns> heads_;
};

}  // namespace tumortrace
