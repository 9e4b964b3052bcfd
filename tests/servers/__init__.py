"""Real servers of live streams that can be made to fail, for tests and for the long runs under ``bench/``.

rtsp_server   gst-rtsp-server in a process of its own, under the system's Python (needs python3-gi)
mjpeg         HTTP multipart JPEG in a process of its own
proxy         a TCP proxy that delays, stops forwarding, or cuts
launch        starts the first two, kills and freezes them, starts them anew under the same address
truth         what came out: ages by the time code in the pictures; threads, files and memory of this process
    running       a run of the whole loop in a thread, and its figures
"""
