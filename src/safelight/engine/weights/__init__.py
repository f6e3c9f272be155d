"""Reading weights: file formats, layouts, LoRA."""
