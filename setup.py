"""Package metadata. Build system, lint, types and tests are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

TRAIN = [
    "torch>=2.9",  # the only room that imports it is rtpsp.model
    "onnxscript>=0.7",  # torch.onnx.export needs it
    "safetensors>=0.5",  # the format's own reader: no dependencies, one wheel for all Pythons, what hubs hand out now
]

# NVIDIA's bindings of the CUDA driver and of its compiler of kernels, and that compiler, which needs no GPU. The plain
# names are of CUDA 13, which a driver for CUDA 12 does not run: for that there is an extra ending with -cu12.
CUDA = [
    "cuda-bindings>=12.8",  # of CUDA graphs too, which PyCUDA has not
    "nvidia-cuda-nvrtc>=13",
]

CUDA_12 = ["cuda-bindings>=12.8,<13", "nvidia-cuda-nvrtc-cu12>=12.8"]

# PyPI holds source archives of some lines, which take the libraries from NVIDIA's own index. 10.12 deprecated all but
# strongly typed networks, which ours are.
TENSORRT = ["tensorrt>=10.12", *CUDA]

TENSORRT_CU12 = ["tensorrt-cu12>=10.12", *CUDA_12]


def _rtx_wheels(cuda: int) -> list[str]:
    """NVIDIA's builder and runtime for RTX cards, which builds without a GPU.

    The metapackages tensorrt-rtx and tensorrt-rtx-cu13 are source archives that only pull in these two.
    """
    return [
        f"tensorrt_rtx_cu{cuda}_{part}>=1.7 ; sys_platform == 'linux' and platform_machine == 'x86_64'"
        for part in ("libs", "bindings")
    ]


TENSORRT_RTX = [*_rtx_wheels(13), *CUDA]

TENSORRT_RTX_CU12 = [*_rtx_wheels(12), *CUDA_12]

# The same module as onnxruntime, with the CUDA provider in it; its extras bring the libraries that the provider loads.
# To be installed over onnxruntime, not with it: of the two the later one's files count, and rtpsp doctor says where
# those are the wrong ones. On PyPI 1.27 is the first for CUDA 13.
ONNXRUNTIME_GPU = ["onnxruntime-gpu[cuda,cudnn]>=1.23"]

ONNXRUNTIME_GPU_CU12 = ["onnxruntime-gpu[cuda,cudnn]>=1.23,<1.27"]

# The first choice of bindings where it is there. A source archive: pip compiles it against CUDA's headers. The release
# is the first that knows the new cuCtxCreate of CUDA 13.
PYCUDA = ["pycuda>=2025.1.2"]

TEST = [
    *_rtx_wheels(13),  # its parser and builder judge every graph that we make
    *CUDA,  # against a double of the driver; NVRTC compiles every kernel for every generation of GPUs
    "hypothesis>=6.130",
    "mypy>=2.1",
    "pytest>=9.0",
    "pytest-xdist>=3.6",  # a process a core: the pytest project's own, and half of the suite waits or starts processes
    "ruff>=0.15",
    "setuptools>=77",  # the wheel's test builds without isolation
]

setup(
    name="rtpsp",
    version="0.1.0",
    description="Real-time PSPNet segmentation: any PSPNet in, the fastest correct engine out, fresh frames on screen",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0 AND LicenseRef-CamVid-Research-Only",
    license_files=["LICENSE", "rtpsp/zoo/LICENSE-WEIGHTS.txt"],
    python_requires=">=3.10",
    packages=find_packages(include=["rtpsp", "rtpsp.*"]),
    package_data={
        "rtpsp": ["py.typed"],
        "rtpsp.bench": ["templates/*"],
        "rtpsp.engine": ["kernels/*.cu"],
        "rtpsp.label_sets": ["*.txt"],
        "rtpsp.zoo": ["*.json", "*.md", "*.onnx.gz", "*.txt"],
    },
    install_requires=[
        "av>=17",  # files, timestamps, H.264 out: its wheel brings FFmpeg with x264, OpenCV's has no H.264 encoder
        "archspec>=0.2.5",  # the processor's features by name, on every system; Spack's own detection
        "click>=8.3.3",  # before it, an option with an optional value takes the next option for one
        # names of cameras; on Linux we ask V4L2 ourselves
        "cv2-enumerate-cameras>=1.4 ; sys_platform == 'darwin' or sys_platform == 'win32'",
        "filelock>=3.12",  # two processes build an engine once
        "jinja2>=3.1",  # the benchmark's page, with every name that comes from a file escaped
        "matplotlib>=3.9",  # confusion matrices, comparison sheets, training curves, plots of benchmarks
        "numpy>=1.26",
        "nvidia-ml-py>=12.535",  # NVIDIA's bindings of NVML: pure Python, 50 kB, fine where there is no driver
        "onnx>=1.19",
        "onnx-ir>=0.2",  # the ONNX project's own graph library: pure Python, released monthly, typed
        "onnxruntime>=1.23",
        "opencv-python>=4.11",
        "openvino>=2025.3",
        "packaging>=24",
        "platformdirs>=4.3",
        "prometheus-client>=0.21",  # the Prometheus project's own exposition format: pure Python, no dependencies
        "psutil>=7",  # cores and memory
        "pillow>=11",  # an image's size from its head, without decoding it; matplotlib brings it already
        "pycocotools>=2.0.8",  # COCO's own run-length codec
        "python-json-logger>=3.1",  # log lines as JSON, 3.1 the first that is typed; pure Python, no dependencies
        "rich>=14.3",  # before it, a progress bar that goes away leaves a blank line
        "tomli>=2 ; python_version < '3.11'",
        "tomli-w>=1.0",  # --dump-config; the writer beside the standard library's reader
    ],
    extras_require={
        "train": TRAIN,
        "tensorrt": TENSORRT,
        "tensorrt-cu12": TENSORRT_CU12,
        "tensorrt-rtx": TENSORRT_RTX,
        "tensorrt-rtx-cu12": TENSORRT_RTX_CU12,
        "onnxruntime-gpu": ONNXRUNTIME_GPU,
        "onnxruntime-gpu-cu12": ONNXRUNTIME_GPU_CU12,
        "pycuda": PYCUDA,
        "test": TEST,
    },
    entry_points={"console_scripts": ["rtpsp = rtpsp.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Multimedia :: Video :: Capture",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
