"""What a spiking network reaches on images, beside others, and where its accuracy goes."""
