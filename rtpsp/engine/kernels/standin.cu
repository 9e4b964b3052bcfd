// What the stand-in engine computes (rtpsp/engine/standin.py): the class of a pixel is its brightest channel.

extern "C" __global__ void standin_wait(unsigned long long nanoseconds)
{
#ifdef __CUDA_ARCH__
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - begin < nanoseconds);
#else
    (void)nanoseconds; // the host's streams have no clock
#endif
}

// frames: uint8 [n, pixels, 3]; class_map: uint8 [n, pixels]. A thread is a pixel of the batch.
extern "C" __global__ void standin_classes(const unsigned char *frames, unsigned char *class_map, int count)
{
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= count)
        return;
    const unsigned char *channel = frames + 3 * (long long)pixel;
    int best = channel[1] > channel[0] ? 1 : 0;
    if (channel[2] > channel[best])
        best = 2;
    class_map[pixel] = (unsigned char)best;
}

// confidence: uint8 [n, pixels], 255 times the softmax of the scores below at the largest of them.
extern "C" __global__ void standin_confidence(const unsigned char *frames, unsigned char *confidence, int count)
{
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= count)
        return;
    const unsigned char *channel = frames + 3 * (long long)pixel;
    int largest = channel[0];
    for (int index = 1; index < 3; ++index)
        largest = channel[index] > largest ? channel[index] : largest;
    float sum = 0.0f;
    for (int index = 0; index < 3; ++index)
        sum += expf((channel[index] - largest) / 32.0f);
    confidence[pixel] = (unsigned char)(255.0f / sum + 0.5f);
}

// scores: float32 [n, classes, pixels]: a 32nd of each channel, and -1000 for the classes that are no channel.
extern "C" __global__ void standin_scores(const unsigned char *frames, float *scores, int count, int pixels, int classes)
{
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= count)
        return;
    const int image = pixel / pixels;
    float *score = scores + ((long long)image * classes) * pixels + pixel % pixels;
    for (int index = 0; index < classes; ++index)
        score[(long long)index * pixels] = index < 3 ? frames[3 * (long long)pixel + index] / 32.0f : -1000.0f;
}
