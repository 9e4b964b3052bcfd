"""PSPNet in PyTorch, its checkpoints and its export: the only room that imports torch (extra ``train``)."""
