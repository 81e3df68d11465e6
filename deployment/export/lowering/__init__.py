"""Networks as ExecuTorch takes them: of one size, in operators of XNNPACK."""
