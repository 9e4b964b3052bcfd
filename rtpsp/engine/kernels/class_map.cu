// From the network's scores to a class map of the frame's own size, and to the picture that is shown.
//
// A pixel lies in the gap between four cells of the scores, of which two or all are the same one at the edges. Its
// score is a bilinear, so convex, combination of theirs: where the four share their best class, it is the pixel's too,
// and nothing is interpolated; elsewhere a class whose four scores all lie below the least of another's four is the
// best of no pixel between them, and only the others, the contenders, are interpolated (as rtpsp.class_mapper does).
//
// In float32, and compiled without contraction to fused multiply-adds: every GPU gives the bits that a CPU gives. An
// interpolated score is off by 14 * 2^-24 of the largest magnitude at most, so that another class than the reference's
// wins only where their exact scores are within twice that.

constexpr int MOST_CONTENDERS = 7;

struct alignas(16) Gap {
    unsigned short count;  // of contenders; 0: more than there is room for, so all classes are
    unsigned short classes[MOST_CONTENDERS];  // ascending
};

struct alignas(8) Place {  // of a row or column of the frame
    int gap;       // 0 lies before the first cell's centre; -1: the model does not see this
    float weight;  // of the latter cell
};

struct Corners {  // of a gap, in cells from the first of a class
    int above_left, above_right, below_left, below_right;
};

__device__ inline Corners corners_of(int row, int column, int height, int width) {
    const int above = (row > 0 ? row - 1 : 0) * width, below = (row < height ? row : height - 1) * width;
    const int left = column > 0 ? column - 1 : 0, right = column < width ? column : width - 1;
    return {above + left, above + right, below + left, below + right};
}

__device__ inline float least_of(const float *__restrict__ scores, Corners at) {
    float least = scores[at.above_left];
    least = scores[at.above_right] < least ? scores[at.above_right] : least;
    least = scores[at.below_left] < least ? scores[at.below_left] : least;
    return scores[at.below_right] < least ? scores[at.below_right] : least;
}

// One thread a gap: (height + 1) x (width + 1) of them, neighbours in a row beside each other. The scores come in once
// (150 classes of 90x120 cells: 6.5 MB; 11: 0.5 MB) and again, from the caches, for gaps between classes; 16 bytes a gap
// go out. It is the only kernel that reads all scores, and few threads: so many loads are under way in each.
extern "C" __global__ void find_contenders(const float *__restrict__ scores, int classes, int height, int width,
                                           Gap *__restrict__ gaps) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    const int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (column > width || row > height)
        return;
    const Corners at = corners_of(row, column, height, width);
    const long long cells = (long long)height * width;
    float best[4] = {scores[at.above_left], scores[at.above_right], scores[at.below_left], scores[at.below_right]};
    int winners[4] = {0, 0, 0, 0};
#pragma unroll 8
    for (int label = 1; label < classes; ++label) {
        const float *own = scores + label * cells;
        const float values[4] = {own[at.above_left], own[at.above_right], own[at.below_left], own[at.below_right]};
#pragma unroll
        for (int corner = 0; corner < 4; ++corner)
            if (values[corner] > best[corner]) {
                best[corner] = values[corner];
                winners[corner] = label;
            }
    }
    Gap *gap = gaps + (long long)row * (width + 1) + column;
    if (winners[0] == winners[1] && winners[0] == winners[2] && winners[0] == winners[3]) {
        gap->count = 1;
        gap->classes[0] = (unsigned short)winners[0];
        return;
    }
    float least = least_of(scores + winners[0] * cells, at);
#pragma unroll
    for (int corner = 1; corner < 4; ++corner) {
        const float other = least_of(scores + winners[corner] * cells, at);
        least = other > least ? other : least;
    }
    int count = 0;
#pragma unroll 8
    for (int label = 0; label < classes; ++label) {
        const float *own = scores + label * cells;
        const bool below = (own[at.above_left] < least) & (own[at.above_right] < least) &
                           (own[at.below_left] < least) & (own[at.below_right] < least);
        if (!below) {  // so written, scores that are no numbers contend
            if (count < MOST_CONTENDERS)
                gap->classes[count] = (unsigned short)label;
            ++count;
        }
    }
    gap->count = (unsigned short)(count <= MOST_CONTENDERS ? count : 0);
}

__device__ inline int class_of(const float *__restrict__ scores, int classes, int height, int width,
                               const Gap *__restrict__ gaps, Place row, Place column) {
    const Gap gap = gaps[(long long)row.gap * (width + 1) + column.gap];
    if (gap.count == 1)
        return gap.classes[0];
    const Corners at = corners_of(row.gap, column.gap, height, width);
    const long long cells = (long long)height * width;
    const int count = gap.count ? gap.count : classes;
    // Read again rather than picked out of `gap`: an index into registers would put them into memory.
    const unsigned short *contenders = gaps[(long long)row.gap * (width + 1) + column.gap].classes;
    float best = 0;
    int winner = 0;
#pragma unroll 1  // two or three, mostly
    for (int i = 0; i < count; ++i) {
        const int label = gap.count ? contenders[i] : i;
        const float *own = scores + label * cells;
        const float above = own[at.above_left] + column.weight * (own[at.above_right] - own[at.above_left]);
        const float below = own[at.below_left] + column.weight * (own[at.below_right] - own[at.below_left]);
        const float value = above + row.weight * (below - above);
        if (i == 0 || value > best) {  // of equal ones the first
            best = value;
            winner = label;
        }
    }
    return winner;
}

__device__ inline unsigned blend(unsigned image, unsigned colour, float of_image, float of_colour) {
    return (unsigned)rintf((float)image * of_image + (float)colour * of_colour);  // halves to even
}

template <typename Id> struct alignas(4 * sizeof(Id)) Four {
    Id ids[4];
};

constexpr int NO_PICTURE = 0, MASK = 1;  // else an overlay

// One thread for four pixels that follow each other in the frame, be they of one row or not: 12 bytes of the frame and
// of the picture, 4 of a class map of bytes, aligned for every width. The buffers are as many whole fours long; `rows`
// has four entries more, unseen, for the pixels after the last. Per frame (1080x1920) the frame comes in again and the
// picture goes out, 6.2 MB each, with 2.1 MB of class map: 5 us at the 3.35 TB/s of an H100's data sheet.
template <typename Id>
__device__ void finish_four(const float *__restrict__ scores, int classes, int height, int width,
                            const Gap *__restrict__ gaps, const Place *__restrict__ rows,
                            const Place *__restrict__ columns, unsigned frame_height, unsigned frame_width,
                            int no_class, Four<Id> *__restrict__ class_map, const unsigned *__restrict__ palette,
                            unsigned stripe_width, unsigned dark, unsigned light, int view, float of_image,
                            float of_colour, const unsigned *__restrict__ frame, unsigned *__restrict__ picture) {
    const unsigned four = blockIdx.x * blockDim.x + threadIdx.x;
    if (four >= (frame_height * frame_width + 3) / 4)
        return;
    unsigned y = 4 * four / frame_width, x = 4 * four - y * frame_width;
    Four<Id> map;
    unsigned colours[4];
    Place row = rows[y];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const Place column = columns[x];
        const bool seen = row.gap >= 0 && column.gap >= 0;
        const int id = seen ? class_of(scores, classes, height, width, gaps, row, column) : no_class;
        map.ids[i] = (Id)id;
        colours[i] = 0;
        if (view != NO_PICTURE)
            colours[i] = seen ? palette[id] : (y + x) / stripe_width & 1 ? light : dark;
        if (++x == frame_width) {
            x = 0;
            row = rows[++y];
        }
    }
    class_map[four] = map;
    if (view == NO_PICTURE)
        return;
    unsigned mixed[3] = {0, 0, 0}, image[3] = {0, 0, 0};
    if (view != MASK)
#pragma unroll
        for (int i = 0; i < 3; ++i)
            image[i] = frame[3 * four + i];
#pragma unroll
    for (int byte = 0; byte < 12; ++byte) {
        const int bits = 8 * (byte % 4);
        unsigned value = colours[byte / 3] >> 8 * (byte % 3) & 255;
        if (view != MASK)
            value = blend(image[byte / 4] >> bits & 255, value, of_image, of_colour);
        mixed[byte / 4] |= value << bits;
    }
#pragma unroll
    for (int i = 0; i < 3; ++i)
        picture[3 * four + i] = mixed[i];
}

extern "C" __global__ void finish_uint8(
    const float *__restrict__ scores, int classes, int height, int width, const Gap *__restrict__ gaps,
    const Place *__restrict__ rows, const Place *__restrict__ columns, unsigned frame_height, unsigned frame_width,
    int no_class, Four<unsigned char> *__restrict__ class_map, const unsigned *__restrict__ palette,
    unsigned stripe_width, unsigned dark, unsigned light, int view, float of_image, float of_colour,
    const unsigned *__restrict__ frame, unsigned *__restrict__ picture) {
    finish_four(scores, classes, height, width, gaps, rows, columns, frame_height, frame_width, no_class, class_map,
                palette, stripe_width, dark, light, view, of_image, of_colour, frame, picture);
}

extern "C" __global__ void finish_int32(
    const float *__restrict__ scores, int classes, int height, int width, const Gap *__restrict__ gaps,
    const Place *__restrict__ rows, const Place *__restrict__ columns, unsigned frame_height, unsigned frame_width,
    int no_class, Four<int> *__restrict__ class_map, const unsigned *__restrict__ palette,
    unsigned stripe_width, unsigned dark, unsigned light, int view, float of_image, float of_colour,
    const unsigned *__restrict__ frame, unsigned *__restrict__ picture) {
    finish_four(scores, classes, height, width, gaps, rows, columns, frame_height, frame_width, no_class, class_map,
                palette, stripe_width, dark, light, view, of_image, of_colour, frame, picture);
}
