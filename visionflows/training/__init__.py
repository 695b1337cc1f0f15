"""From a file table to a judged network: fastai trains, and what it says becomes evidence.

Here belongs what needs labels; a published model lies in `model`, how it scores in `engine`.
"""
