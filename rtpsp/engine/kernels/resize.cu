// A camera's frame to the model's size, in whole numbers: rtpsp.device_reference.resize gives the same bytes.
//
// Both ways of resizing are a weighted mean of a run of pixels down and across. The host works out the runs, one for
// each row and one for each column of the model's input; of a run, all pixels but the first and the last weigh the same.
//
// One thread a pixel. It reads its rows' pixels as 4-byte words, 3 of them for 4 pixels. Per frame the source box comes
// in once (1080x1920: 6.2 MB; what neighbours share, they share in the caches) and the model's input goes out (720x960:
// 2.1 MB): 3 us at the 3.35 TB/s of an H100's data sheet.

struct alignas(16) Run {
    int first;    // row or column of the frame
    int count;    // 0: padding
    unsigned head, tail;  // weights of the first pixel and of the last, where that is another one
};

// `Sum` holds 255.5 times `total`: 64 bits are needed for frames beyond some 16 million pixels, of a size that has no
// factor in common with the model's. A 32-bit division takes a fifth of the time.
template <typename Sum>
__device__ void resize_pixel(const unsigned *__restrict__ frame, int frame_width, const Run *__restrict__ rows,
                             unsigned inner_row, const Run *__restrict__ columns, unsigned inner_column, Sum total,
                             unsigned padding, unsigned char *__restrict__ input, int height, int width) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height)
        return;
    const Run row = rows[y], column = columns[x];
    unsigned blue = padding & 255, green = padding >> 8 & 255, red = padding >> 16;
    if (row.count && column.count) {
        Sum sums[3] = {total / 2, total / 2, total / 2};  // halves are rounded up
        for (int i = 0; i < row.count; ++i) {
            const unsigned long long byte = 3 * ((unsigned long long)(row.first + i) * frame_width + column.first);
            const unsigned *word = frame + byte / 4;
            unsigned low = word[0], high = word[1];  // the frame's buffer is 8 bytes longer than the frame
            unsigned bits = 8 * (byte & 3);
            word += 2;
            unsigned across[3] = {0, 0, 0};
            for (int j = 0; j < column.count; ++j) {
                const unsigned pixel = (((unsigned long long)high << 32) | low) >> bits;
                const unsigned weight = j == 0 ? column.head : j == column.count - 1 ? column.tail : inner_column;
                across[0] += weight * (pixel & 255);
                across[1] += weight * (pixel >> 8 & 255);
                across[2] += weight * (pixel >> 16 & 255);
                bits += 24;
                if (bits >= 32 && j + 1 < column.count) {
                    bits -= 32;
                    low = high;
                    high = *word++;
                }
            }
            const Sum weight = i == 0 ? row.head : i == row.count - 1 ? row.tail : inner_row;
            for (int channel = 0; channel < 3; ++channel)
                sums[channel] += weight * across[channel];
        }
        blue = (unsigned)(sums[0] / total);
        green = (unsigned)(sums[1] / total);
        red = (unsigned)(sums[2] / total);
    }
    unsigned char *pixel = input + 3 * ((unsigned long long)y * width + x);
    pixel[0] = (unsigned char)blue;
    pixel[1] = (unsigned char)green;
    pixel[2] = (unsigned char)red;
}

extern "C" __global__ void resize(const unsigned *__restrict__ frame, int frame_width, const Run *__restrict__ rows,
                                  unsigned inner_row, const Run *__restrict__ columns, unsigned inner_column,
                                  unsigned long long total, unsigned padding, unsigned char *__restrict__ input,
                                  int height, int width) {
    resize_pixel<unsigned>(frame, frame_width, rows, inner_row, columns, inner_column, (unsigned)total, padding, input,
                           height, width);
}

extern "C" __global__ void resize_wide(const unsigned *__restrict__ frame, int frame_width,
                                       const Run *__restrict__ rows, unsigned inner_row,
                                       const Run *__restrict__ columns, unsigned inner_column, unsigned long long total,
                                       unsigned padding, unsigned char *__restrict__ input, int height, int width) {
    resize_pixel<unsigned long long>(frame, frame_width, rows, inner_row, columns, inner_column, total, padding, input,
                                     height, width);
}
