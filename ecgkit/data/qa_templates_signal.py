"""How the kit asks about noise, extra beats and measurements of one ECG (templates 26-42).

The sentences are the kit's. The first line of each block is flavour `template`, the others are
`paraphrased`. {a}, {b}: what is asked about; of noise in a lead {b} is the lead (for template 31
{c}); of measurements {a} is the range, {b} the measurement.

Usage:

    SIGNAL[27]           # a block of lines
"""

from __future__ import annotations

SIGNAL = {
    26: """
        Is {b} disturbed by {a}?
        Does {a} spoil {b}?
        Looking at {b} alone, is there {a}?
        Can {a} be seen in {b}?
        Would you note {a} for {b}?
    """,
    27: """
        Is this recording disturbed by {a}?
        Does {a} spoil this ECG?
        Looking at all leads, is there {a}?
        Can {a} be seen anywhere on the tracing?
        Would you note {a} under signal quality?
    """,
    28: """
        Is {b} disturbed at all?
        Does noise of any kind spoil {b}?
        Looking at {b} alone, is the signal impaired?
        Is there anything to remark on the quality of {b}?
        Would you call {b} noisy?
    """,
    29: """
        Is this recording disturbed at all?
        Does noise of any kind spoil this ECG?
        Would you remark on the signal quality?
        Is any lead of the tracing noisy?
        Looking at all leads, is the signal impaired?
    """,
    30: """
        Is this recording disturbed by {a} or by {b}?
        Which spoils this ECG, {a} or {b}?
        Under signal quality, would you note {a} or {b}?
        Of {a} and {b}, what can be seen on the tracing?
        Looking at all leads, is it {a} or {b}?
    """,
    31: """
        Is {c} disturbed by {a} or by {b}?
        Which spoils {c}, {a} or {b}?
        For {c}, would you note {a} or {b}?
        Of {a} and {b}, what can be seen in {c}?
        Looking at {c} alone, is it {a} or {b}?
    """,
    32: """
        What disturbs this recording?
        Name the noise that spoils this ECG.
        What would you note under signal quality?
        Which kinds of disturbance does the tracing carry?
        Looking at all leads, what noise is there?
    """,
    33: """
        What disturbs {b}?
        Name the noise that spoils {b}.
        What would you note on the quality of {b}?
        Which kinds of disturbance does {b} carry?
        Looking at {b} alone, what noise is there?
    """,
    34: """
        Which leads are disturbed by {a}?
        Where on this ECG is {a}?
        Name the leads spoilt by {a}.
        In what leads would you note {a}?
        Looking at each lead, which show {a}?
    """,
    35: """
        Are there any extra beats on this ECG?
        Does a premature beat interrupt this recording?
        Would you report extra beats of any kind?
        Is the rhythm broken by an early beat?
        Looking at the rhythm strip, do you find extra beats?
    """,
    36: """
        Are there {a} on this ECG?
        Do {a} interrupt this recording?
        Would you report {a}?
        Is the rhythm broken by {a}?
        Looking at the rhythm strip, do you find {a}?
    """,
    37: """
        Are the early beats {a} or {b}, if there are any?
        Which interrupt this recording, {a} or {b}?
        Would you report {a} or {b}?
        Is the rhythm broken by {a} or by {b}?
        Of {a} and {b}, which does the rhythm strip show?
    """,
    38: """
        Which extra beats does this ECG show?
        Name the kind of early beats in this recording.
        What extra beats would you report?
        By what beats is the rhythm broken?
        Looking at the rhythm strip, which extra beats are there?
    """,
    39: """
        Is the {b} {a}?
        Measured on this ECG, does the {b} lie {a}?
        Would you call the {b} {a}?
        Does the {b} of this recording fall {a}?
        Is {a} the right place for the {b} here?
    """,
    40: """
        Does the {b} lie {a}?
        Measured on this ECG, is the {b} {a}?
        Would you call the {b} {a}?
        Which holds for the {b} of this recording: {a}?
        Is the {b} here {a}?
    """,
    41: """
        Where does the {b} lie against its normal range?
        Measured on this ECG, how does the {b} compare with normal?
        Is the {b} low, normal or high?
        How would you judge the length of the {b}?
        Against its limits, where is the {b} of this recording?
    """,
    42: """
        Which measurements of this ECG lie {a}?
        Name the intervals that are {a}.
        What is {a} among the measurements?
        List each measured value that falls {a}.
        Going through the intervals, which are {a}?
    """,
}
