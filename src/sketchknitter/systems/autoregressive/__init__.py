"""What SketchRNN, SketchPix2seq and SketchHealer share: a decoder that draws point by point.

``tokens`` (stroke-5 rows and where a drawing ends), ``density`` (the mixture of Gaussians over the
next offset and its loss), ``decoder`` (the LSTM), ``sampling`` (temperature, drawing), ``codes``
(Gaussian mixtures over latent codes).

Sources: D. Ha and D. Eck, A Neural Representation of Sketch Drawings, ICLR 2018
(arXiv 1704.03477); A. Graves, Generating Sequences with Recurrent Neural Networks, 2013
(arXiv 1308.0850), equations 18-26.
"""
