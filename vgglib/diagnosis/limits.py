"""With what are the numbers of a diagnosis compared, and why?

The limits of the start were measured on recorded starts; those of rate and dropout rest on
argument. ``benchmarks/limits.py`` measures all.
"""

#: Gradient against weight decay, |g| / (λ·|w|), the median of the weight layers. Below the second
#: number the decay takes more than the gradient gives (chapter 4). Of the recorded random starts
#: the 20 above it all learned (the least had 1.4), the 23 below the first number did not, and of
#: the 11 between them 3 did.
FADES, BALANCES = 0.1, 1.0
#: Without decay: |g| / |w| below half of the paper's λ.
STARVES = 2.5e-4
#: Loss at the start as a multiple of ln K, the loss of guessing. Recorded starts that learned had
#: up to 1.7 times it, those that ended in NaN at least 17 times.
SURE_AND_WRONG = 5.0
#: The same of a net that was trained: on its own labels it is below 1.
WORSE = 1.2
#: |lr·g| / |w|, the median of the weight layers. Wide limits, by argument: a thousand steps of the
#: first, tenfold by momentum, move the weights by a hundredth; one of the last replaces a third of
#: them. The recorded starts with a balance above 1 had 7e-6 to 4.5e-3.
CRAWLS, LEAPS = 1e-6, 0.3
#: Share of a layer's channels, or units, that no image of the batch makes fire. Of nets at their
#: start it was 0.39 at most, of trained ones 0.51, in narrow FC layers.
DEAD = 0.8
#: Probability of dropout. By argument: where 1 unit in 5 is left, the noise of the mask is twice as
#: large as what it is added to, sqrt(p / (1 - p)); the paper's half makes them equal.
DROPS = 0.8
#: Of a net that has learned: its loss is below this share of ln K.
KNOWS = 0.75
#: Entropy of the net's answers as a share of that of the labels, from which it tells images apart.
TELLS_APART = 0.7
#: Standard errors by which a difference between two losses of the same images counts.
CLEAR = 4.0
